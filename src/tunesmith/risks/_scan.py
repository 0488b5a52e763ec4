"""Looking for things in the text of rows: how many rows hold each kind, and where the first ones stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from math import log2

from tunesmith.risks._contract import N_PLACES, Found, Place
from tunesmith.risks._row import Row
from tunesmith.risks._seen import Seen

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


class Scanning:
    """A member that looks for things in all that the rows say, and tells of each kind of them."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._scan = Scan(self.find)

    def see(self, row: Row) -> None:
        """Looks at all that the row says."""
        self._scan.see(row)

    def found(self) -> tuple[Found, ...]:
        """One for each kind of thing."""
        return tuple(self.tell(kind, n, tuple(self._scan.places[kind])) for kind, n in self._scan.n_rows.items())

    def find(self, text: str) -> list[Hit]:
        """What stands in a text."""
        raise NotImplementedError

    def tell(self, kind: str, n: int, places: tuple[Place, ...]) -> Found:
        """What to say of the `n` rows that hold a kind."""
        raise NotImplementedError


def masked(secret: str) -> str:
    """A secret as it may be shown: its first characters, four at most, and its length."""
    return f"{secret[: min(4, len(secret) // 4)]}... ({len(secret)} characters)"


def looks_random(value: str, bits: float) -> bool:
    """Whether a text has as many bits a character, and does not run like abcdef or 123456."""
    n = len(value)
    entropy = -sum(count / n * log2(count / n) for count in Counter(value).values())
    n_runs = sum(abs(ord(one) - ord(other)) <= 1 for one, other in pairwise(value))
    return entropy >= bits and n_runs <= n / 3
