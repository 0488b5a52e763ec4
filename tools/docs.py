"""Write the pages that are made from the code: docs/help.md from the verbs' help, docs/errors.md from the faults.

`python tools/docs.py` writes them; with `--check` it only says which differ, and ends with 1 when any does.
"""

from __future__ import annotations

import ast
import io
import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "tunesmith"


@dataclass(frozen=True)
class Said:
    """A fault as the code says it; what is only known at run time stands in braces. Empty where it is computed."""

    code: str
    file: str
    what: str
    fix: str


def faults() -> list[Said]:
    """Every `Fault("room/what", ...)` in the source, by code and file."""
    found = {one for path in SOURCE.rglob("*.py") for one in _faults_of(path)}
    return sorted(found, key=lambda one: (one.code, one.file, one.what, one.fix))


def without_literal_code() -> list[str]:
    """Places where a Fault is made whose code is no literal, so that no list could know it."""
    found = []
    for path in SOURCE.rglob("*.py"):
        for call in _calls(ast.parse(path.read_text(encoding="utf-8"))):
            if not _is_code(_argument(call, 0, "code")):
                found.append(f"{path.relative_to(ROOT).as_posix()}:{call.lineno}")
    return sorted(found)


def _faults_of(path: Path) -> Iterator[Said]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for scope in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
        for call in _calls(scope):
            code = _argument(call, 0, "code")
            if isinstance(code, ast.Constant) and _is_code(code):
                words = [_text(_argument(call, place, name), scope, call) for place, name in ((1, "what"), (2, "fix"))]
                yield Said(code.value, path.relative_to(SOURCE).as_posix(), *words)


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Fault":
            yield node


def _is_code(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and "/" in node.value


def _argument(call: ast.Call, place: int, name: str) -> ast.expr | None:
    if len(call.args) > place:
        return call.args[place]
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _text(node: ast.expr | None, scope: ast.FunctionDef, call: ast.Call) -> str:
    """A literal as text; a name as the text it was last given above."""
    if not isinstance(node, ast.Name):
        return _literal(node)
    given = ""
    for one in ast.walk(scope):
        if isinstance(one, ast.Assign) and one.lineno < call.lineno:
            given = _assigned(one.targets[0], one.value, node.id) or given
    return given


def _literal(node: ast.expr | None) -> str:
    """A text as it is written, with what is computed in braces."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{...}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _literal(node.left) + _literal(node.right)
    if isinstance(node, ast.IfExp):
        return " / ".join(filter(None, (_literal(node.body), _literal(node.orelse))))
    return ""


def _assigned(target: ast.expr, value: ast.expr, name: str) -> str:
    """What an assignment gives to a name, alone or among others."""
    if isinstance(target, ast.Name) and target.id == name:
        return _literal(value)
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        pairs = zip(target.elts, value.elts, strict=False)
        return next(filter(None, (_assigned(one, given, name) for one, given in pairs)), "")
    return ""


def errors_page() -> str:
    """docs/errors.md."""
    lines = [
        "# Errors",
        "",
        "Every error says a code, what was seen, where, and how to mend it. The exit code is 2 when the command or its",
        "recipe was wrong, 130 after Ctrl-C, else 1. With `--json` the same stands on stdout. In braces: what is only",
        "known at the time.",
        "",
        "This page is made by `python tools/docs.py` from the code.",
    ]
    room = code = ""
    for one in faults():
        if one.code.partition("/")[0] != room:
            room = one.code.partition("/")[0]
            lines += ["", f"## {room}"]
        if one.code != code:
            code = one.code
            lines += ["", f"### {code}", ""]
        said = f": {_one_line(one.what)}" if one.what else ""
        cure = f" *{_one_line(one.fix)}*" if one.fix else ""
        lines.append(f"- `{one.file}`{said}{'.' if said and cure else ''}{cure}")
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*")


def help_page() -> str:
    """docs/help.md: what `tunesmith --help` and each verb's `--help` print, 100 columns wide."""
    from tunesmith.cli import main
    from tunesmith.cli.front import VERBS

    os.environ.update(COLUMNS="100", NO_COLOR="1", TERM="dumb")
    parts = ["# Help\n\nWhat `--help` prints. This page is made by `python tools/docs.py` from the code.\n"]
    for words in (["--help"], *([verb, "--help"] for verb in VERBS)):
        out = io.StringIO()
        with redirect_stdout(out):
            code = main(words)
        if code != 0:
            raise SystemExit(f"tunesmith {' '.join(words)} ended with {code}")
        text = "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())
        parts.append(f"## tunesmith {' '.join(words)}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


PAGES = {"errors.md": errors_page, "help.md": help_page}


def main(words: list[str]) -> int:
    """Write the pages, or with `--check` compare them."""
    differ = []
    for name, make in PAGES.items():
        path, text = ROOT / "docs" / name, make()
        same = path.is_file() and path.read_text(encoding="utf-8") == text
        if not same and "--check" in words:
            differ.append(name)
        elif not same:
            path.write_text(text, encoding="utf-8")
            sys.stderr.write(f"wrote docs/{name}\n")
    if differ:
        sys.stderr.write(f"differ from the code: {', '.join(differ)}; mend with: python tools/docs.py\n")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
