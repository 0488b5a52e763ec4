from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from tunesmith.risks._contract import N_PLACES, Found
from tunesmith.risks._row import Row
from tunesmith.risks._seen import Seen
from tunesmith.risks._words import are, share

HIGH = 0.01  # of the test rows


class Leaks:
    """Test rows that are also learnt from, whole or only their question: their result says too much."""

    kind: ClassVar[str] = "leaks"
    asks: ClassVar[str] = "Do test rows stand in the rows to learn from?"

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def see(self, row: Row) -> None:
        """Nothing of its own: what all members share is enough."""

    def found(self) -> tuple[Found, ...]:
        """The test rows that are learnt whole, and those of which the question is."""
        return tuple(self._found()) if self._seen.n_test and self._seen.n_train else ()

    def _found(self) -> Iterator[Found]:
        import numpy as np

        is_test, n_test = self._seen.is_test(), self._seen.n_test
        contents, prompts = self._seen.contents(), self._seen.prompts()
        whole = is_test & np.isin(contents, contents[~is_test])
        asked = is_test & ~whole & (prompts != 0) & np.isin(prompts, prompts[~is_test])
        said = (
            (whole, "{} in the rows to learn from", "remove them from one of the two"),
            (asked, "{} in the rows to learn from with another answer", "remove the question from one of the two"),
        )
        for hit, words, fix in said:
            numbers = np.flatnonzero(hit)[:N_PLACES].tolist()
            n = int(hit.sum())
            if n:
                who = f"{n:,} test {are(n, 'row', 'rows')} ({share(n, n_test)}) {are(n, 'stands', 'stand')}"
                if hit is asked:
                    who = f"the question of {n:,} test {are(n, 'row', 'rows')} ({share(n, n_test)}) stands"
                places = tuple(self._seen.place(number) for number in numbers)
                severity = "high" if n >= HIGH * n_test else "low"
                yield Found(self.kind, severity, words.format(who), fix, n, places)  # type: ignore[arg-type]
