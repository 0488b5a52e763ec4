"""Looking for things in the text of rows: how many rows hold each kind, and where the first ones stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from math import log2

from tunesmith.risks._contract import N_PLACES, Place
from tunesmith.risks._row import Row

Hit = tuple[str, str]
"""What was found: its kind, and how it may be shown."""
N_FRAMES = 256


class Scan:
    """Counts the rows in which `find` finds something. What many rows share is looked at once."""

    def __init__(self, find: Callable[[str], Sequence[Hit]]) -> None:
        self._find = find
        self._find_in_frame = lru_cache(N_FRAMES)(find)
        self.n_rows: Counter[str] = Counter()
        self.places: dict[str, list[Place]] = {}
        self.shown: dict[str, str] = {}
        """Of each kind the first that was found."""

    def see(self, row: Row) -> None:
        """Looks at a row."""
        hits = self._find(row.text)
        if row.frame:
            hits = [*hits, *self._find_in_frame(row.frame)]
        if hits:
            self._keep(row, hits)

    def _keep(self, row: Row, hits: Sequence[Hit]) -> None:
        for kind, shown in dict(reversed(hits)).items():
            self.n_rows[kind] += 1
            self.shown.setdefault(kind, shown)
            places = self.places.setdefault(kind, [])
            if len(places) < N_PLACES:
                places.append(row.where)


def masked(secret: str) -> str:
    """A secret as it may be shown: its first characters, four at most, and its length."""
    return f"{secret[: min(4, len(secret) // 4)]}... ({len(secret)} characters)"


def looks_random(value: str, bits: float) -> bool:
    """Whether a text has as many bits a character, and does not run like abcdef or 123456."""
    n = len(value)
    entropy = -sum(count / n * log2(count / n) for count in Counter(value).values())
    n_runs = sum(abs(ord(one) - ord(other)) <= 1 for one, other in pairwise(value))
    return entropy >= bits and n_runs <= n / 3
