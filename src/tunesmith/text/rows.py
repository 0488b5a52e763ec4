"""Files to raw rows: what each line of them holds before any format looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tunesmith.errors import DataError, Fault
from tunesmith.text import row_arrow, row_bytes, row_csv, row_json
from tunesmith.text.row import CELLS, COLUMNS, MOST, MOST_BYTES, TEXTS, Row, is_table, is_text, kind_of, known
from tunesmith.text.row_files import find

__all__ = ["Row", "find", "read"]

HEAD = 4096  # bytes that show whether JSON is one list
OTHERS = {
    ".zip": "unpack it: unzip {name}",
    ".bz2": "unpack it: bunzip2 -k {name}",
    ".xz": "unpack it: xz -dk {name}",
    ".gz": "unpack it: gunzip -k {name}",
    ".zst": "unpack it: zstd -d {name}",
    ".tar": "unpack it: tar -xf {name}",
    ".xlsx": "save the sheet as CSV in UTF-8",
    ".xls": "save the sheet as CSV in UTF-8",
    ".ods": "save the sheet as CSV in UTF-8",
}


def read(path: Path) -> Iterator[Row | Fault]:
    """The rows of a file one by one, with a fault in the place of each that cannot be read. Never raises."""
    if not is_table(path) and not is_text(path):
        yield _unknown(path)
        return
    n_rows = 0
    try:
        for one in _rows(path):
            n_rows += 1
            yield one
    except DataError as error:
        yield from error.faults
        return
    except (OSError, ValueError) as error:
        yield Fault("data/unreadable", f"cannot be read: {error}", fix="check the file and its rights", file=str(path))
        return
    if not n_rows:
        yield Fault("data/empty-file", "there is nothing in this file", fix="fill it, or leave it out", file=str(path))


def _unknown(path: Path) -> Fault:
    kind = path.suffix.lower()
    cure = OTHERS.get(kind, "").format(name=path.name)
    fix = cure or f"give one of {known()}; or rename the file to what it is"
    return Fault("data/unknown-file", f"{kind or 'no ending'} is no kind of data file", fix=fix, file=str(path))


def _rows(path: Path) -> Iterator[Row | Fault]:
    kind, packed = kind_of(path)
    if kind in COLUMNS:
        yield from row_arrow.rows(path, kind)
        return
    with row_bytes.opened(path, packed) as stream:
        head = stream.read(HEAD)
    other = row_bytes.other_encoding(head, str(path))
    if other is not None:
        yield other
        return
    with row_bytes.opened(path, packed) as stream:
        if kind in TEXTS:
            yield from _text_file(stream, str(path))
        elif kind in CELLS:
            yield from row_csv.rows(stream, str(path), kind)
        elif kind == ".json" and row_json.is_list(head):
            yield from row_json.list_rows(stream, str(path))
        else:
            yield from row_json.line_rows(stream, str(path), kind)


def _text_file(stream: row_bytes.Bytes, file: str) -> Iterator[Row | Fault]:
    raw = stream.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        what = f"a text file is learnt as one text, and this one has more than {MOST}"
        fix = "cut it into several: split -C 32M --additional-suffix=.txt OLD NEW-, and name them as 'NEW-*.txt'"
        yield Fault("data/too-large-text", what, fix=fix, file=file)
        return
    start = 3 if raw.startswith(b"\xef\xbb\xbf") else 0
    text = row_bytes.decode(raw[start:], file, 1, start)
    if isinstance(text, Fault):
        yield text
    elif text.strip():
        yield Row(file, 1, {"text": text})
