"""Tables as text: a header, then a row a line or over several lines in quotes."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from typing import Any

from tunesmith import say
from tunesmith.errors import Fault
from tunesmith.text import row_bytes, row_json
from tunesmith.text.row import MOST, MOST_BYTES, Row
from tunesmith.text.row_bytes import Bytes

JSON_COLUMNS = ("messages", "conversations", "conversation", "tools", "history")
LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")  # a carriage return alone ends one too
COLUMN = re.compile(r"[^\n.?!]{1,64}")  # a name; more is the text of a row
EXAMPLE = "prompt,completion or instruction,input,output or text or messages"


class _Lines:
    """The lines that the csv module asks for; what is no text ends them with a fault."""

    def __init__(self, stream: Bytes, file: str) -> None:
        self.file = file
        self.fault: Fault | None = None
        self.n_read = 0
        self._lines = self._parts(stream)
        self._waiting: list[str] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._waiting:
            return self._waiting.pop()
        return next(self._lines)

    def peek(self) -> str:
        """The next line, which is given again."""
        line = next(self._lines, "")
        self._waiting = [line] if line else []
        return line

    def _parts(self, stream: Bytes) -> Iterator[str]:
        for line in row_bytes.lines(stream):
            if line.is_too_long:
                self.fault = row_bytes.too_long(self.file, line.number, line.n_bytes)
                return
            text = row_bytes.decode(line.raw, self.file, line.number, line.start)
            if isinstance(text, Fault):
                self.fault = text
                return
            yield from LINE.findall(text) if "\r" in text else (text,)


def rows(stream: Bytes, file: str, kind: str) -> Iterator[Row | Fault]:
    """The rows below the header, each as its columns' names with its cells; all cells are texts.

    Columns that hold lists elsewhere (`messages`, `conversations`, `tools`, `history`) hold JSON.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MOST_BYTES))
    lines = _Lines(stream, file)
    table = csv.reader(lines, delimiter=_delimiter(lines.peek(), kind, file), strict=True)
    header: list[str] | None = None
    while True:
        line = table.line_num + 1
        try:
            cells = next(table, None)
        except csv.Error as error:
            yield lines.fault or _not_csv(error, file, line)
            if header is None or lines.fault or "field larger" in str(error):
                return
            continue
        if cells is None:
            break
        if not cells:
            continue
        if header is None:
            header = [name.strip() or f"column {number}" for number, name in enumerate(cells, 1)]
            fault = _no_header(header, file, line)
            if fault is not None:
                yield fault
                return
        else:
            yield _row(header, cells, file, line)
    if lines.fault is not None:
        yield lines.fault


def _delimiter(first: str, kind: str, file: str) -> str:
    if kind == ".tsv":
        return "\t"
    if "," not in first and (";" in first or "\t" in first):
        found = ";" if ";" in first else "\t"
        say.note(f"{file}: cells end with {'a semicolon' if found == ';' else 'a tab'}, by the look of the first line")
        return found
    return ","


def _not_csv(error: csv.Error, file: str, line: int) -> Fault:
    said = str(error)
    fix = 'write a quote inside a cell twice: "he said ""no"""'
    if "unexpected end of data" in said:
        said, fix = "a quote opens a cell that never ends", "close the cell with a quote"
    elif "field larger" in said:
        said, fix = f"a cell has more than {MOST}, or its quote is never closed", "close or shorten the cell"
    return Fault("data/not-csv", f"not a row of a table: {said}", fix=fix, file=file, line=line)


def _no_header(header: Sequence[str], file: str, line: int) -> Fault | None:
    fix = f"write the columns' names on the first line, such as {EXAMPLE}"
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        what = "two columns have one name"
        return Fault("data/duplicate-key", what, fix="rename one of them", file=file, line=line, key=twice)
    strange = next((name for name in header if not COLUMN.fullmatch(name)), None)
    if strange is None:
        return None
    what = f"the first line names the columns, and {strange[:40]!r} is no name"
    return Fault("data/no-header", what, fix=fix, file=file, line=line)


def _row(header: Sequence[str], cells: Sequence[str], file: str, line: int) -> Row | Fault:
    if len(cells) != len(header):
        what = f"the row has {len(cells)} of {len(header)} cells"
        fix = "put quotes around a cell that holds a separator, and give each column a cell"
        return Fault("data/ragged-row", what, fix=fix, file=file, line=line)
    value: dict[str, Any] = dict(zip(header, cells, strict=True))
    for key in JSON_COLUMNS:
        cell = value.get(key)
        if cell is None or cell.lstrip()[:1] not in ("[", "{"):
            continue
        inside = row_json.value_of(cell, file, line)
        if isinstance(inside, Fault):
            what = f"the cell of {key} is no JSON that can be read: {inside.what}"
            fix = "write the cell as JSON, with each quote in it twice"
            return Fault("data/bad-cell", what, fix=fix, file=file, line=line, key=key)
        value[key] = inside
    return Row(file, line, value)
