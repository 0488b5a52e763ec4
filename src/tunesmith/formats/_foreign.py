"""Rows that a format cannot read: what they are, and how to make them ones that it can."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from tunesmith import rooms

PREFERENCES = (("chosen", "rejected"), ("preferred_output", "non_preferred_output"))


def preference(row: Mapping[str, Any]) -> str:
    """The keys by which a row says which answer is the better one; empty where it does not."""
    for pair in PREFERENCES:
        if all(key in row for key in pair):
            return " and ".join(pair)
    if "completion" in row and isinstance(row.get("label"), bool):
        return "completion and label"
    return ""


def kind_of(row: Mapping[str, Any]) -> str:
    """The format that claims a row; empty where none does."""
    names = rooms.names("formats")
    return next((name for name in names if rooms.find("formats", name).claims(row)), "")


def cure(row: Mapping[str, Any], kind: str = "") -> str:
    """How to make a row one that can be read (as `kind`, where that is known); empty when nothing is known about it."""
    other = kind_of(row)
    if other and other != kind:
        return f"this is a row of {other}: keep one format in a file, or set data.format: {other}"
    near = difflib.get_close_matches("messages", map(str, row), n=1, cutoff=0.75)
    if near:
        return f"did you mean 'messages' by {near[0]!r}?"
    wrapped = next((key for key, value in row.items() if _is_rows(value)), None)
    return f"the rows stand inside {wrapped!r}: write them alone, one a line" if wrapped is not None else ""


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)
