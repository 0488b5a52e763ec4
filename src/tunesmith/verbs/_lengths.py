"""Lengths as they come: how many rows have each, and from that mean, quantiles and bars; exact, and small."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

N_BARS = 12
USUAL = 0.99  # share of the rows that the even bars hold; the last bar holds what is longer than that


@dataclass(frozen=True)
class Bar:
    """Rows of `low` up to and with `high`; `high` is None where the last bar is open."""

    low: int
    high: int | None
    n: int

    @property
    def name(self) -> str:
        """`100 to 199`, `7`, or `over 1,200`."""
        if self.high is None:
            return f"over {self.low - 1:,}"
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,} to {self.high:,}"


class Lengths:
    """How many there are of each length: as many numbers as there are different lengths."""

    def __init__(self) -> None:
        self.counted: Counter[int] = Counter()

    def add(self, length: int) -> None:
        """One more of this length."""
        self.counted[length] += 1

    @property
    def n(self) -> int:
        """How many lengths came."""
        return self.counted.total()

    @property
    def total(self) -> int:
        """All lengths together."""
        return sum(length * n for length, n in self.counted.items())

    @property
    def mean(self) -> float:
        """The mean; 0 where none came."""
        return self.total / self.n if self.counted else 0.0

    def quantile(self, share: float) -> int:
        """The least length that at least this share of them does not exceed; 0 where none came."""
        wanted = max(1, math.ceil(share * self.n))
        ordered = sorted(self.counted.items())
        sums = accumulate(n for _, n in ordered)
        return next((length for (length, _), upto in zip(ordered, sums, strict=True) if upto >= wanted), 0)

    def bars(self, most: int = N_BARS) -> tuple[Bar, ...]:
        """At most `most` bars of one round width, and an open one where a few are far longer than the rest."""
        if not self.counted:
            return ()
        longest, usual = max(self.counted), self.quantile(USUAL)
        open_from = usual if longest > 2 * usual else longest
        width = _round_width(min(self.counted), open_from, most)
        first = min(self.counted) // width * width
        top = open_from // width * width + width - 1  # the end of the last even bar
        heights: Counter[int] = Counter()
        beyond = 0
        for length, n in self.counted.items():
            if length > top:
                beyond += n
            else:
                heights[length // width * width] += n
        even = tuple(Bar(low, low + width - 1, heights[low]) for low in range(first, top, width))
        if width == 1:
            even = tuple(Bar(low, low, heights[low]) for low in range(first, top + 1))
        return (*even, Bar(top + 1, None, beyond)) if beyond else even

    def as_json(self) -> Mapping[str, Any]:
        """The numbers for programs; keys as `docs/json.md` promises."""
        return {
            "total": self.total,
            "mean": round(self.mean, 2),
            "median": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "max": max(self.counted, default=0),
            "histogram": [{"from": bar.low, "to": bar.high, "rows": bar.n} for bar in self.bars()],
        }


def _round_width(low: int, high: int, most: int) -> int:
    """The least of 1, 2, 5, 10, 20 ... of which `most` reach from `low` to `high`."""
    width: int = 1
    for power in range(20):
        for step in (1, 2, 5):
            width = step * int(10**power)
            if high // width - low // width < most:
                return width
    return width
