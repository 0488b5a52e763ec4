"""Files to raw rows: which files are meant, and what each line of them holds before any format looks at it."""

from __future__ import annotations

import codecs
import glob
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.errors import Fault
from tunesmith.rooms import did_you_mean

TABLES = (".jsonl", ".ndjson", ".json")
TEXTS = (".txt", ".md")


@dataclass(frozen=True)
class Row:
    """One row as it stands in its file; `line` is where it begins, from 1. A text file is one row `{"text": ...}`."""

    file: str
    line: int
    value: Mapping[str, Any]


def find(paths: Sequence[str], without: Sequence[Path] = ()) -> tuple[list[Path], list[Fault]]:
    """The files behind names, globs and folders, each once and in order; and a fault for each name with none behind it.

    Of a folder, its tables (`.jsonl`, `.json`) are taken; its texts (`.txt`, `.md`) where it has no table. Files of
    `without` are left out of folders and globs.
    """
    found: dict[Path, None] = {}
    faults: list[Fault] = []
    left_out = {one.resolve() for one in without}
    for name in paths:
        here = _behind(name, left_out)
        if isinstance(here, Fault):
            faults.append(here)
        else:
            found.update(dict.fromkeys(here))
    return list(found), faults


def _behind(name: str, left_out: Set[Path]) -> list[Path] | Fault:
    path = Path(name)
    try:
        if path.is_dir():
            inside = [one for one in _files(path.iterdir(), left_out) if not one.name.startswith(".")]
            tables = [one for one in inside if one.suffix.lower() in TABLES]
            files = tables or [one for one in inside if one.suffix.lower() in TEXTS]
            return files or Fault(
                "data/no-files", "no data file in this folder", fix=f"put one of {_known()} there", file=name
            )
        if path.exists():
            return [path]
        if glob.has_magic(name):
            matched = glob.glob(name, recursive=True)  # noqa: PTH207  # takes absolute patterns
            files = _files(map(Path, matched), left_out)
            return files or Fault("data/no-files", "no file matches", fix="check the pattern, and quote it", file=name)
        near = tuple(one.name for one in path.parent.iterdir()) if path.parent.is_dir() else ()
    except (OSError, ValueError) as error:
        return Fault("data/unreadable", f"cannot be read: {error}", fix="check the name and its rights", file=name)
    files_near = tuple(one for one in near if Path(one).suffix.lower() in (*TABLES, *TEXTS))
    cure = did_you_mean(path.name, files_near) if files_near else "check the path"
    return Fault("data/no-such-file", "there is no such file", fix=cure, file=name)


def _files(paths: Iterable[Path], left_out: Set[Path]) -> list[Path]:
    return sorted(one for one in paths if one.is_file() and one.resolve() not in left_out)


def _known() -> str:
    return ", ".join((*TABLES, *TEXTS))


def read(path: Path) -> Iterator[Row | Fault]:
    """The rows of a file one by one, with a fault in the place of each that cannot be read. Never raises."""
    kind = path.suffix.lower()
    if kind not in (*TABLES, *TEXTS):
        fix = f"give one of {_known()}, or rename the file to what it is"
        if kind == ".gz":
            fix = f"unpack it: gunzip -k {path.name}"
        yield Fault("data/unknown-file", f"{kind or 'no ending'} is no kind of data file", fix=fix, file=str(path))
        return
    n_rows = 0
    try:
        for one in _rows(path, kind):
            n_rows += 1
            yield one
    except (OSError, ValueError) as error:
        yield Fault("data/unreadable", f"cannot be read: {error}", fix="check the file and its rights", file=str(path))
        return
    if not n_rows:
        yield Fault("data/empty-file", "there is nothing in this file", fix="fill it, or leave it out", file=str(path))


def _rows(path: Path, kind: str) -> Iterator[Row | Fault]:
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        fix = f"save it as UTF-8: iconv -f UTF-16 -t UTF-8 {path.name} > new{kind}"
        yield Fault("data/not-utf8", "the file is UTF-16", fix=fix, file=str(path), line=1)
    elif kind in TEXTS:
        yield from _text_file(path)
    elif kind == ".json" and _is_list(path):
        yield from _list_file(path)
    else:
        yield from _line_file(path)


def _is_list(path: Path) -> bool:
    with path.open("rb") as file:
        for line in file:
            if line.removeprefix(codecs.BOM_UTF8).strip():
                return line.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
    return False


def _decode(raw: bytes, file: str, line: int, start: int) -> str | Fault:
    """The text of `raw`, which begins `start` bytes into the file, at `line`."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = start + error.start
        line += raw.count(b"\n", 0, error.start)
        what = f"byte {at} (0x{raw[error.start]:02x}) is not UTF-8"
        return Fault("data/not-utf8", what, fix="save the file as UTF-8, or mend this line", file=file, line=line)


def _text_file(path: Path) -> Iterator[Row | Fault]:
    raw = path.read_bytes()
    start = len(codecs.BOM_UTF8) if raw.startswith(codecs.BOM_UTF8) else 0
    text = _decode(raw[start:], str(path), 1, start)
    if isinstance(text, Fault):
        yield text
    elif text.strip():
        yield Row(str(path), 1, {"text": text})


def _line_file(path: Path) -> Iterator[Row | Fault]:
    at, first = 0, True
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            start, at = at, at + len(raw)
            if number == 1 and raw.startswith(codecs.BOM_UTF8):
                raw, start = raw[len(codecs.BOM_UTF8) :], len(codecs.BOM_UTF8)
            if not raw.strip():
                continue
            text = _decode(raw, str(path), number, start)
            row = text if isinstance(text, Fault) else _row(text.strip(), str(path), number)
            if first and isinstance(row, Fault) and row.code == "data/not-json" and _opens(raw, _line_after(path, at)):
                yield _over_lines(path, number, is_list=raw.lstrip().startswith(b"["))
                return
            first = False
            yield row


def _over_lines(path: Path, line: int, *, is_list: bool) -> Fault:
    what = "this is JSON over several lines, and here a line holds a row"
    fix = "write each row on one line, or all of them as one list in a .json file"
    if is_list:
        fix = "rename it to .json, or write each row on one line"
    elif path.suffix.lower() == ".json":
        fix = "write the rows as one list, in [ ], or each on one line"
    return Fault("data/not-json-lines", what, fix=fix, file=str(path), line=line)


def _opens(raw: bytes, after: bytes) -> bool:
    """Whether a line only begins something that goes on below: the line after it is no row of its own."""
    return raw.lstrip().startswith(b"[") or bool(after and _ends_early(raw) and not _stands_alone(after))


def _ends_early(raw: bytes) -> bool:
    text = raw.decode("utf-8", "replace").strip()
    try:
        _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text)
    except (RecursionError, ValueError):
        pass
    return False


def _stands_alone(raw: bytes) -> bool:
    try:
        return isinstance(json.loads(raw), dict)
    except (RecursionError, ValueError):
        return False


def _line_after(path: Path, at: int) -> bytes:
    """The first line with something on it from this byte on."""
    with path.open("rb") as file:
        file.seek(at)
        return next((line.strip() for line in file if line.strip()), b"")


def _list_file(path: Path) -> Iterator[Row | Fault]:
    raw = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    text = _decode(raw, str(path), 1, 0)
    if isinstance(text, Fault):
        yield text
        return
    at, line, done = _blank(text, text.index("[") + 1), 1, 0
    if text[at : at + 1] == "]":
        return
    while True:
        line, done = line + text.count("\n", done, at), at
        value, at = _parse(text, at, str(path), line, whole=False)
        yield _checked(value, text[done:at], str(path), line)
        if isinstance(value, Fault):
            return  # where the next row begins cannot be known
        at = _blank(text, at)
        mark = text[at : at + 1]
        if mark != ",":
            if mark != "]" or text[at + 1 :].strip():
                here = line + text.count("\n", done, at)
                what = f"not JSON: expected , or ] after a row, and found {mark or 'the end'!r}"
                yield Fault("data/not-json", what, fix="mend the list", file=str(path), line=here)
            return
        at = _blank(text, at + 1)


def _blank(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


class _TwiceError(ValueError):
    """A key stands twice in one object."""


class _NotFiniteError(ValueError):
    """NaN or Infinity, which JSON does not have."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return made


def _constant(name: str) -> Any:
    raise _NotFiniteError(name)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _row(text: str, file: str, line: int) -> Row | Fault:
    value, _ = _parse(text, 0, file, line, whole=True)
    return _checked(value, text, file, line)


def _parse(text: str, at: int, file: str, line: int, *, whole: bool) -> tuple[Any, int]:
    """The value that begins at `at`, or a Fault, and where it ends; `whole`: nothing may come after it."""
    fix = "mend this line, or remove it"
    try:
        value, end = _DECODER.raw_decode(text, at)
    except _TwiceError as error:
        fix = "keep one of the two"
        return Fault("data/duplicate-key", "a key stands twice", fix=fix, file=file, line=line, key=str(error)), at
    except _NotFiniteError as error:
        return Fault("data/not-finite", f"{error} is not JSON", fix="use a number or null", file=file, line=line), at
    except json.JSONDecodeError as error:
        column = error.pos - text.rfind("\n", 0, error.pos)
        line += text.count("\n", at, error.pos)
        what = f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}, at column {column}"
        return Fault("data/not-json", what, fix=fix, file=file, line=line), at
    except (RecursionError, ValueError) as error:
        return Fault("data/not-json", f"cannot be read as JSON: {error}", fix=fix, file=file, line=line), at
    if whole and text[end:].strip():
        what = f"not JSON: {text[end:].strip()[:20]!r} comes after the object"
        return Fault("data/not-json", what, fix="write one object a line", file=file, line=line), end
    return value, end


def _checked(value: Any, source: str, file: str, line: int) -> Row | Fault:
    if isinstance(value, Fault):
        return value
    if not isinstance(value, dict):
        what = f"a row is an object, and this is {_kind(value)}"
        return Fault(
            "data/not-an-object", what, fix='write {"messages": [...]} or {"text": "..."}', file=file, line=line
        )
    if "\\ud" in source.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except (UnicodeEncodeError, RecursionError):
            what = "half of a surrogate pair (\\ud800 to \\udfff) stands alone, which is no character"
            fix = "write both halves, or the character itself"
            return Fault("data/half-character", what, fix=fix, file=file, line=line)
    return Row(file, line, value)


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
