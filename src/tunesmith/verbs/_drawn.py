from __future__ import annotations

import random
from typing import Generic, TypeVar

T = TypeVar("T")


class Drawn(Generic[T]):
    """A few of many that go by, each with the same chance; the same ones for the same data."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.n_seen = 0
        self._kept: list[tuple[int, T]] = []
        self._random = random.Random(0)

    def see(self, one: T) -> None:
        """One that goes by."""
        self.n_seen += 1
        if len(self._kept) < self.size:
            self._kept.append((self.n_seen, one))
        elif (at := self._random.randrange(self.n_seen)) < self.size:
            self._kept[at] = (self.n_seen, one)

    @property
    def in_order(self) -> list[T]:
        """Those that were drawn, as they came."""
        return [one for _, one in sorted(self._kept, key=lambda kept: kept[0])]

    @property
    def shuffled(self) -> list[T]:
        """Those that were drawn, in random order."""
        kept = self.in_order
        random.Random(1).shuffle(kept)
        return kept
