"""A raw row, and the kinds of file that hold rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

LINES = (".jsonl", ".ndjson")
CELLS = (".csv", ".tsv")
COLUMNS = (".parquet", ".arrow")
TABLES = (*LINES, ".json", *CELLS, *COLUMNS)
TEXTS = (".txt", ".md")
PACKED = (".gz", ".zst")
MOST_BYTES = 64 * 1024 * 1024
"""Bytes that one row, line, cell or text file may have; what is longer is told and passed over."""
MOST = f"{MOST_BYTES >> 20} MiB"


class Row(NamedTuple):
    """One row as it stands in its file; `line` is where it begins, from 1. A text file is one row `{"text": ...}`.

    In Parquet and Arrow files `line` is the number of the row.
    """

    file: str
    line: int
    value: Mapping[str, Any]


def kind_of(path: Path | str) -> tuple[str, str]:
    """(what a file holds, how it is packed), both by its ending: `a.jsonl.gz` is (".jsonl", ".gz")."""
    name = Path(path)
    last = name.suffix.lower()
    if last in PACKED:
        return Path(name.stem).suffix.lower(), last
    return last, ""


def is_table(path: Path | str) -> bool:
    """Whether rows are read from a file of this name."""
    kind, packed = kind_of(path)
    return kind in TABLES and not (packed and kind in COLUMNS)


def is_text(path: Path | str) -> bool:
    """Whether a file of this name is read as one text."""
    return kind_of(path)[0] in TEXTS


def known() -> str:
    """The endings that are read, in words."""
    return f"{', '.join((*TABLES, *TEXTS))}; all but {' and '.join(COLUMNS)} also with {' or '.join(PACKED)}"
