"""Rows of other programs' formats, and how to write them as ours."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

CURES = {
    "conversations": "these are ShareGPT rows: rename conversations, from and value to messages, role and content",
    "conversation": "rename conversation to messages, with role and content in each",
    "instruction": "these are Alpaca rows: write instruction and output as a user and an assistant message",
    "prompt": "write prompt and completion as a user and an assistant message",
    "question": "write question and answer as a user and an assistant message",
    "text": "set data.format: text, with objective: uft",
}


def cure(row: Mapping[str, Any]) -> str:
    """How to write a row that has no `messages`; empty when nothing is known about it."""
    known = next((fix for key, fix in CURES.items() if key in row), "")
    if known:
        return known
    near = difflib.get_close_matches("messages", map(str, row), n=1, cutoff=0.75)
    if near:
        return f"did you mean 'messages' by {near[0]!r}?"
    wrapped = next((key for key, value in row.items() if _is_rows(value)), None)
    return f"the rows stand inside {wrapped!r}: write them alone, one a line" if wrapped is not None else ""


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)
