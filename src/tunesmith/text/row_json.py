"""JSON to rows: an object a line, or one list of objects; a row in memory at a time."""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from tunesmith.errors import Fault
from tunesmith.text import row_bytes
from tunesmith.text.row import MOST_BYTES, Row
from tunesmith.text.row_bytes import Bytes, Line

CHUNK = 1 << 16
NEAR_END = 16  # characters in which a word, a number or an escape may have been cut
_BLANK = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(r'\\.|["{}\[\]]', re.DOTALL)


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


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _NotFiniteError(f"{digits:.40}, which is larger than a number can be,")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
_LENIENT = json.JSONDecoder()  # finds where a value ends that the other refuses


def value_of(text: str, file: str, line: int) -> Any:
    """What a JSON text means, or the Fault of it."""
    value = _parse(text.strip(), 0, file, line, whole=True)[0]
    return _half_character(file, line) if _has_half_character(text, value) else value


def line_rows(stream: Bytes, file: str, kind: str) -> Iterator[Row | Fault]:
    """A row a line. Blank lines are passed over."""
    lines = (line for line in row_bytes.lines(stream) if line.is_too_long or line.raw.strip())
    first = next(lines, None)
    if first is None:
        return
    row = _line_row(first, file)
    if not isinstance(row, Fault) or row.code != "data/not-json":
        yield row
    else:
        second = next(lines, None)
        if _opens(first.raw, second.raw if second else b""):
            yield _over_lines(first, file, kind)
            return
        yield row
        if second is not None:
            yield _line_row(second, file)
    for line in lines:
        yield _line_row(line, file)


def _line_row(line: Line, file: str) -> Row | Fault:
    if line.n_bytes > MOST_BYTES:
        return row_bytes.too_long(file, line.number, line.n_bytes)
    text = row_bytes.decode(line.raw, file, line.number, line.start)
    if isinstance(text, Fault):
        return text
    text = text.strip()
    return _checked(_parse(text, 0, file, line.number, whole=True)[0], text, file, line.number)


def _over_lines(line: Line, file: str, kind: str) -> Fault:
    what = "this is JSON over several lines, and here a line holds a row"
    fix = "write each row on one line, or all of them as one list in a .json file"
    if kind == ".json":
        fix = "write the rows as one list, in [ ], or each on one line"
    elif line.raw.lstrip().startswith(b"["):
        fix = "rename it to .json, or write each row on one line"
    return Fault("data/not-json-lines", what, fix=fix, file=file, line=line.number)


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


def is_list(head: bytes) -> bool:
    """Whether a JSON file that begins so is one list."""
    return head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


class _Text:
    """The text of a stream, of which the part before `at` has been read and is let go of now and then."""

    def __init__(self, stream: Bytes, file: str) -> None:
        self.stream, self.file = stream, file
        self.text, self.at = "", 0
        self.at_end = False
        self.fault: Fault | None = None
        self._line, self._counted = 1, 0
        self._left = b""  # bytes of a character that is not whole
        self._n_bytes = 0
        self._line_of_bytes = 1

    @property
    def line(self) -> int:
        """The line at which the reading is."""
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line

    @property
    def mark(self) -> str:
        """The next character; empty at the end."""
        return self.text[self.at : self.at + 1]

    def more(self, size: int = CHUNK) -> bool:
        """Take in further text; whether there was any."""
        if self.at > CHUNK:
            _ = self.line
            self.text, self.at, self._counted = self.text[self.at :], 0, 0
        raw = b"" if self.fault else self.stream.read(size)
        if self._n_bytes == 0 and raw.startswith(codecs.BOM_UTF8):
            self._n_bytes, raw = len(codecs.BOM_UTF8), raw[len(codecs.BOM_UTF8) :]
        self.at_end = not raw
        got = self._left + raw
        try:
            text, used = codecs.utf_8_decode(got, "strict", self.at_end)
        except UnicodeDecodeError as error:
            return self._fail(row_bytes.not_utf8(got, error.start, self.file, self._line_of_bytes, self._n_bytes))
        if "\0" in text:
            return self._fail(row_bytes.nul(got, got.index(b"\0"), self.file, self._line_of_bytes, self._n_bytes))
        self._left = got[used:]
        self._n_bytes += used
        self._line_of_bytes += text.count("\n")
        self.text += text
        return not self.at_end

    def _fail(self, fault: Fault) -> bool:
        self.fault, self.at_end, self._left = fault, True, b""
        return False

    def skip_blank(self) -> None:
        """On to the next place that is not blank."""
        while True:
            match = _BLANK.match(self.text, self.at)
            assert match is not None
            self.at = match.end()
            if self.at < len(self.text) or not self.more():
                return


def list_rows(stream: Bytes, file: str) -> Iterator[Row | Fault]:
    """The rows of one list. After what is no JSON the next row cannot be found, and the reading ends."""
    text = _Text(stream, file)
    yield from _list_rows(text, file)
    if text.fault is not None:
        yield text.fault


def _list_rows(text: _Text, file: str) -> Iterator[Row | Fault]:
    _step(text)
    if text.mark != "]":
        while True:
            row, goes_on = _list_row(text, file)
            if text.fault is None:
                yield row
            if text.fault or not goes_on:
                return
            text.skip_blank()
            if text.mark != ",":
                break
            _step(text)
    if text.mark != "]" and text.fault is None:
        what = f"not JSON: expected , or ] after a row, and found {text.mark or 'the end'!r}"
        yield Fault("data/not-json", what, fix="mend the list", file=file, line=text.line)
        return
    _step(text)
    if text.mark and text.fault is None:
        what = f"not JSON: {text.mark!r} comes after the list"
        yield Fault("data/not-json", what, fix="write all rows as one list", file=file, line=text.line)


def _step(text: _Text) -> None:
    """Past the mark that is next, and the blanks on both sides of it."""
    text.skip_blank()
    text.at += 1
    text.skip_blank()


def _list_row(text: _Text, file: str) -> tuple[Row | Fault, bool]:
    """The row that is next, and whether the place after it is known."""
    size = CHUNK
    while True:
        value, end = _parse(text.text, text.at, file, text.line, whole=False)
        if isinstance(value, Fault):
            end = _end_of(text)
            is_whole = end != 0 or text.at_end
        else:
            is_whole = end < len(text.text) or text.at_end
        if is_whole:
            row = _checked(value, text.text[text.at : end], file, text.line)
            text.at = max(text.at, end)
            return row, end > 0
        if len(text.text) - text.at > MOST_BYTES:
            line = text.line
            return row_bytes.too_long(file, line, _skip(text), "this row"), True
        text.more(size)
        size = min(size * 2, MOST_BYTES)


def _end_of(text: _Text) -> int:
    """Where the value that is next ends; 0 where it does not yet, -1 where it is no JSON."""
    try:
        _, end = _LENIENT.raw_decode(text.text, text.at)
    except json.JSONDecodeError as error:
        is_cut = error.msg.startswith("Unterminated string") or error.pos >= len(text.text) - NEAR_END
        return 0 if is_cut else -1
    except (RecursionError, ValueError):
        return -1
    return end if end < len(text.text) or text.at_end else 0


def _skip(text: _Text) -> int:
    """Pass over the value that is next, by its brackets alone; gives its bytes."""
    n_bytes = depth = 0
    in_string = False
    while True:
        seen = start = text.at
        for token in _TOKEN.finditer(text.text, start):
            mark, seen = token.group(), token.end()
            if mark == '"':
                in_string = not in_string
            elif not in_string and len(mark) == 1:
                depth += 1 if mark in "{[" else -1
            if depth <= 0 and not in_string:
                text.at = seen
                return n_bytes + len(text.text[start:seen].encode())
        cut_escape = text.text.endswith("\\") and seen < len(text.text)
        text.at = len(text.text) - cut_escape
        n_bytes += len(text.text[start : text.at].encode())
        if not text.more(1 << 20):
            return n_bytes


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
    if whole and end < len(text):
        return _after(text, end, file, line), end
    return value, end


def _after(text: str, end: int, file: str, line: int) -> Fault:
    what, fix = f"not JSON: {text[end:].strip()[:20]!r} comes after the object", "write one object a line"
    if text[end:].lstrip(" \t").startswith("\r"):
        what = "a carriage return alone ends no line here, and another row comes after it"
        fix = "end lines with a line feed: tr '\\r' '\\n' < OLD > NEW"
    return Fault("data/not-json", what, fix=fix, file=file, line=line)


def _checked(value: Any, source: str, file: str, line: int) -> Row | Fault:
    if isinstance(value, Fault):
        return value
    if not isinstance(value, dict):
        what = f"a row is an object, and this is {_kind(value)}"
        return Fault(
            "data/not-an-object", what, fix='write {"messages": [...]} or {"text": "..."}', file=file, line=line
        )
    if _has_half_character(source, value):
        return _half_character(file, line)
    return Row(file, line, value)


def _half_character(file: str, line: int) -> Fault:
    what = "half of a surrogate pair (\\ud800 to \\udfff) stands alone, which is no character"
    return Fault("data/half-character", what, "write both halves, or the character itself", file=file, line=line)


def _has_half_character(source: str, value: Any) -> bool:
    if "\\ud" not in source and "\\uD" not in source:
        return False
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return True
    return False


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
