from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from tunesmith.risks._contract import N_PLACES, Found, Place
from tunesmith.risks._row import Row
from tunesmith.risks._seen import Seen
from tunesmith.risks._words import are, rows, share

MOST, FEW = 0.9, 5  # a share of the rows; rows of one label
N_SHOWN = 3


class Unbalanced:
    """Where answers are labels: one that is nearly all, some with very few rows, one that is written in two ways."""

    kind: ClassVar[str] = "unbalanced"
    asks: ClassVar[str] = "Where answers are labels, has each enough rows?"

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def see(self, row: Row) -> None:
        """Nothing of its own: what all members share is enough."""

    def found(self) -> tuple[Found, ...]:
        """The label that is nearly all, those with few rows, and those that differ only in how they are written."""
        return tuple(self._found()) if self._seen.labels.is_set else ()

    def _found(self) -> Iterator[Found]:
        counts = self._seen.labels.counts
        n_all = counts.total()
        (label, most), *_ = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        if len(counts) == 1:
            what, fix = f"all {n_all:,} answers are {label!r}", "add rows with other answers"
            yield Found(self.kind, "high", what, fix, n_all, self._places([label]))
        elif most >= MOST * n_all:
            what = f"the answer of {rows(most, n_all)} is {label!r}"
            fix = "add rows with other answers, or leave some of these out"
            yield Found(self.kind, "low", what, fix, most, self._places([label]))
        few = sorted((one for one, n in counts.items() if n < FEW), key=lambda one: (counts[one], one))
        if few:
            shown = ", ".join(f"{one!r} ({counts[one]})" for one in few[:N_SHOWN]) + (", ..." if few[N_SHOWN:] else "")
            who = f"{len(few):,} of {len(counts):,} labels ({share(len(few), len(counts))})"
            what = f"{who} {are(len(few), 'has', 'have')} fewer than {FEW} rows: {shown}"
            fix = "add rows for them, or leave them out"
            yield Found(self.kind, "low", what, fix, sum(counts[one] for one in few), self._places(few))
        yield from self._written_apart()

    def _written_apart(self) -> Iterator[Found]:
        counts = self._seen.labels.counts
        alike: dict[str, list[str]] = {}
        for one in sorted(counts, key=lambda one: (-counts[one], one)):
            alike.setdefault(re.sub(r"[\W_]+", "", one).casefold() or one, []).append(one)
        apart = [labels for labels in alike.values() if len(labels) > 1]
        if apart:
            shown = "; ".join(" and ".join(f"{one!r} ({counts[one]})" for one in labels) for labels in apart[:N_SHOWN])
            seldom = [one for labels in apart for one in labels[1:]]
            what = f"labels differ only in how they are written: {shown}"
            n = sum(counts[one] for one in seldom)
            yield Found(self.kind, "low", what, "write them alike", n, self._places(seldom))

    def _places(self, labels: Sequence[str]) -> tuple[Place, ...]:
        numbers = sorted(self._seen.labels.first[one] for one in labels)[:N_PLACES]
        return tuple(self._seen.place(number) for number in numbers)
