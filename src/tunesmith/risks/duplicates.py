from __future__ import annotations

from typing import ClassVar

from tunesmith.risks._contract import N_PLACES, Found
from tunesmith.risks._row import Row
from tunesmith.risks._seen import Seen
from tunesmith.risks._words import are, rows

HIGH = 0.1  # of the rows


class Duplicates:
    """Rows that stand again, word for word but for blanks at the ends of turns; each extra copy is learnt once more."""

    kind: ClassVar[str] = "duplicates"
    asks: ClassVar[str] = "Do rows stand twice?"

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def see(self, row: Row) -> None:
        """Nothing of its own: what all members share is enough."""

    def found(self) -> tuple[Found, ...]:
        """The later copies, those of the rows to learn from and of the test rows each among themselves."""
        import numpy as np

        contents = self._seen.contents() ^ self._seen.is_test()  # a test row that is learnt is a leak, and no copy
        order = np.argsort(contents, kind="stable")
        again = np.sort(order[1:][contents[order[1:]] == contents[order[:-1]]])
        if not len(again):
            return ()
        n, n_all = len(again), len(contents)
        drop = tuple(self._seen.place(number) for number in again.tolist())
        what = f"{rows(n, n_all)} {are(n, 'is a copy', 'are copies')} of an earlier one"
        fix = "remove the copies, unless they are meant to weigh more"
        return (Found(self.kind, "high" if n >= HIGH * n_all else "low", what, fix, n, drop[:N_PLACES], drop),)
