"""Which scripts a text is written in, by the names that Unicode gives its letters."""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache

AT_ONCE = 1 << 20  # characters that are counted at once: a text may be a book
_NO_LETTERS = {one: None for one in range(128) if not chr(one).isalpha()}
_NAMES = {"CJK": "Han", "IDEOGRAPHIC": "Han"}
_WIDTHS = ("FULLWIDTH ", "HALFWIDTH ")
_NO_SCRIPT = ("MATHEMATICAL", "MICRO", "FEMININE", "MASCULINE", "DOUBLE-STRUCK", "OHM", "KELVIN", "ANGSTROM")


def count_letters(text: str, into: Counter[str]) -> None:
    """Add the letters of a text to `into`, by script; all that is no letter counts for none."""
    if text.isascii():
        into["Latin"] += len(text.translate(_NO_LETTERS))
        return
    for start in range(0, len(text), AT_ONCE):
        for letter, n in Counter(text[start : start + AT_ONCE]).items():
            if name := script_of(letter):
                into[name] += n


@lru_cache(maxsize=1 << 16)
def script_of(character: str) -> str:
    """The script of a letter, such as `Latin`, `Cyrillic` or `Han`; empty for what is no letter of any one script."""
    if unicodedata.category(character) not in ("Lu", "Ll", "Lt", "Lo"):
        return ""
    name = unicodedata.name(character, "")
    for width in _WIDTHS:
        name = name.removeprefix(width)
    first = name.partition(" ")[0]
    return "" if first in _NO_SCRIPT else _NAMES.get(first, first.title())
