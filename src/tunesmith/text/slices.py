"""A long text in slices that can be encoded one by one: a tokenizer takes some hundred bytes of memory a byte."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

SLICE = 50_000  # characters
WINDOW = 256  # characters on either side of a cut that are encoded to see that no token reaches over it
TRIES = 16
BORDER = re.compile(r"(?<=\n)(?=\S)|(?<=\S)(?= \S)")  # a line begins, or a word with the blank before it


def slices(text: str, encode: Callable[[str], list[int]]) -> list[str]:
    """The text in slices whose ids, joined, are the ids of the whole; one slice where no safe cut is found."""
    made, at = [], 0
    while len(text) - at > 2 * SLICE:
        cut = next((one for one in _borders(text, at + SLICE) if _is_safe(text, one, encode)), None)
        if cut is None:
            break
        made.append(text[at:cut])
        at = cut
    return [*made, text[at:]]


def _borders(text: str, start: int) -> Iterator[int]:
    found = BORDER.finditer(text, start, start + SLICE)
    return (one.start() for one, _ in zip(found, range(TRIES), strict=False))


def _is_safe(text: str, cut: int, encode: Callable[[str], list[int]]) -> bool:
    left, right = text[max(0, cut - WINDOW) : cut], text[cut : cut + WINDOW]
    return encode(left) + encode(right) == encode(left + right)
