from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import ClassVar

from tunesmith.metrics import _kinds
from tunesmith.metrics._contract import Row
from tunesmith.metrics._row_by_row import RowByRow

KEPT = re.compile(r"(?<=\d)[.,](?=\d)|(?<!\w)[-\u2212](?=\d)|(?<=\d)\s?%")  # they make another number: 3.5, -3, 5 %


class NormalisedMatch(RowByRow):
    """1 where the answer is the wanted one but for case, spaces, punctuation and the form of its characters.

    Both are brought to Unicode's NFKC without case; punctuation becomes a space, save where it belongs to a number.
    Articles stay: they are words.
    """

    kind: ClassVar[str] = "normalised_match"
    asks: ClassVar[str] = "is the answer the wanted one, but for case, spaces and punctuation?"

    def fits(self, wanted: Sequence[str]) -> str:
        """Of short answers, labels among them."""
        return _kinds.reason(wanted, "short", "labels")

    def score(self, row: Row) -> float:
        """1 or 0."""
        return float(normalised(row.said) == normalised(row.wanted))


def normalised(text: str) -> str:
    """The text as it is compared; one that is punctuation alone keeps it."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept = {place for found in KEPT.finditer(text) for place in range(*found.span())}
    letters = [" " if _is_punctuation(one) and place not in kept else one for place, one in enumerate(text)]
    return " ".join("".join(letters).split()) or " ".join(text.split())


def _is_punctuation(letter: str) -> bool:
    return unicodedata.category(letter).startswith("P") or letter == "\u2212"  # a minus sign is no P
