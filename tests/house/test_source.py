"""What the source may not hold, by looking at all of it."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "src" / "tunesmith"
FILES = sorted(SOURCE.rglob("*.py"))
NO_ROOM = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "other", "extras", "core"}
LONG = 60


def tracked() -> list[Path]:
    """The files that git keeps, as they stand now."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout; to get one, git clone it")
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in done.stdout.splitlines() if (path := ROOT / name).is_file()]


def test_all_of_the_source_is_seen() -> None:
    assert len(FILES) > 80


def test_no_file_is_called_by_what_it_is_not() -> None:
    names = [path for folder in ("src", "tests", "tools") for path in (ROOT / folder).rglob("*.py")]
    assert len(names) > 100
    assert [str(path) for path in names if path.stem.lstrip("_") in NO_ROOM and "node_modules" not in path.parts] == []


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_no_function_is_longer_than_a_screen() -> None:
    long, n_seen = [], 0
    for path in FILES:
        for function in functions(ast.parse(path.read_text(encoding="utf-8"))):
            n_seen += 1
            n_lines = (function.end_lineno or 0) - function.lineno + 1
            if n_lines > LONG:
                long.append(f"{path.relative_to(ROOT)}:{function.lineno} {function.name} ({n_lines} lines)")
    assert n_seen > 400
    assert long == []


def test_no_file_is_longer_than_can_be_read_in_one_go() -> None:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {str(path.relative_to(ROOT)): n for path, n in sizes.items() if n > 400} == {}


def test_every_module_puts_off_its_annotations_but_those_the_command_line_reads() -> None:
    wrong = []
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            continue
        has = "from __future__ import annotations" in text
        in_cli = path.parent.name == "cli"
        is_data = not functions(ast.parse(text)) and "class " not in text
        if has == in_cli and not (is_data and not in_cli):
            wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []


def test_no_code_that_comes_with_a_model_is_run() -> None:
    """Where this is not said, transformers asks on the terminal, and runs it on a y."""
    unsaid, n_seen = [], 0
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            if node.func.attr in ("from_pretrained", "from_config") and ast.unparse(node.func.value).startswith("Auto"):
                n_seen += 1
                if "trust_remote_code=False" not in ast.unparse(node):
                    unsaid.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert n_seen >= 10
    assert unsaid == []


def test_the_floors_are_kept() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    if not program.is_file():
        pytest.skip('import-linter is missing; to get it, pip install -e ".[dev]"')
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "2 kept, 0 broken" in done.stdout


def test_every_part_of_the_house_stands_on_a_floor() -> None:
    import tomllib

    tree = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (floors,) = (one["layers"] for one in tree["tool"]["importlinter"]["contracts"] if one["type"] == "layers")
    named = {part.strip().removeprefix("tunesmith.") for floor in floors for part in re.split("[|:]", floor)}
    parts = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert len(parts) > 18
    assert parts - named == {"__init__", "__main__"}


def test_members_of_a_room_do_not_import_each_other() -> None:
    from tunesmith.rooms import ROOMS

    found, n_seen = [], 0
    for room, members in ROOMS.items():
        homes = {target.partition(":")[0] for target in members.values()}
        for home in sorted(homes):
            n_seen += 1
            path = SOURCE / room / f"{home.rpartition('.')[2]}.py"
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [f"{name}.{one.name}" for name in names for one in node.names]  # type: ignore[union-attr]
                names += [one.name for one in node.names] if isinstance(node, ast.Import) else []
                found += [f"{home} imports {name}" for name in names if name in homes - {home}]
    assert n_seen == sum(map(len, ROOMS.values())) >= 24
    assert found == []


# Written in halves, so that this file does not hold what it looks for.
HOSTS = [
    "registry" + r"\.npmjs\.org",
    "files" + r"\.pythonhosted\.org",
    "pypi" + r"\.org/simple",
    "proxy" + r"\.golang\.org",
    "/artifact" + "ory/",
    "codeart" + "ifact",
]
MACHINE = ["/wo" + r"rk/", "/ro" + r"ot/", "/tm" + r"p/w\b", "/home/" + r"[a-z]+/"]


def test_no_tracked_file_names_a_registry_s_host_or_a_path_of_one_machine() -> None:
    found, n_seen = [], 0
    pattern = re.compile("|".join([*HOSTS, *MACHINE]))
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        n_seen += 1
        found += [f"{path.relative_to(ROOT)}: {match.group()}" for match in pattern.finditer(text)]
    assert n_seen > 100
    assert found == []


def test_no_tracked_file_is_large() -> None:
    sizes = {str(path.relative_to(ROOT)): path.stat().st_size for path in tracked()}
    assert len(sizes) > 100
    assert {name: size for name, size in sizes.items() if size > 1_000_000} == {}


def test_no_test_pretends_to_be_a_runtime() -> None:
    """A mock proves what its author believes; the tests ask the real thing."""
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    assert len(texts) > 20
    pattern = re.compile(r"unittest\." + "mock|Magic" + "Mock|mocker" + r"\.")
    assert [str(path.relative_to(ROOT)) for path, text in texts.items() if pattern.search(text)] == []
