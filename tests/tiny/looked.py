"""Rows by hand, and what the room for risks says of them."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.risks._contract import Found
from tunesmith.risks._looking import Looking
from tunesmith.text.example import Example
from tunesmith.text.template import Text

FILE = "rows.jsonl"


def chat(ask: str, answer: str, system: str = "") -> Example:
    """A conversation of one question."""
    turns = [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]
    if system:
        turns.insert(0, {"role": "system", "content": system})
    return Example(tuple(turns), (False,) * (len(turns) - 1) + (True,))


def looked(
    risk: str, rows: Sequence[Example], test: Sequence[Example] = (), text: Text | None = None
) -> tuple[Found, ...]:
    """What one member says of rows; a row's line is its place among them, from 1, the test rows after the others."""
    looking = Looking(text)
    for line, one in enumerate([*rows, *test], 1):
        placed = Example(one.messages, one.learn, one.tools, one.text, FILE, line)
        looking.see(placed, test=line > len(rows))
    return tuple(one for one in looking.found() if one.risk == risk)


def lines(found: Found) -> list[int]:
    """The lines of the places."""
    return [place.line for place in found.places]
