from __future__ import annotations

from typing import ClassVar

from tunesmith.risks._contract import N_PLACES, Found
from tunesmith.risks._row import Row
from tunesmith.risks._seen import Seen
from tunesmith.risks._sketch import Sketches, words_of
from tunesmith.risks._words import are, rows

N_ROWS = 50_000
HIGH = 0.2  # of the rows


class NearDuplicates:
    """Rows that nearly stand again: other blanks, capitals or marks, or a few words changed.

    Of large data a sample is looked at, which rows that are nearly equal get into together: it is chosen by the hashes
    of their words.
    """

    kind: ClassVar[str] = "near_duplicates"
    asks: ClassVar[str] = "Do rows nearly stand twice?"

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._sketches = Sketches(N_ROWS)

    def see(self, row: Row) -> None:
        """Keeps a sketch of its words, as long as it is in the sample."""
        if not row.test:
            self._sketches.add(row.number, self._seen.last_content, words_of(row.text), is_chat=row.example.is_chat)

    def found(self) -> tuple[Found, ...]:
        """The rows to learn from that nearly repeat an earlier one; equal rows are not told again."""
        again, n_sample = self._sketches.later_copies()
        if not again:
            return ()
        n = len(again)
        of = f"in a sample of {n_sample:,} rows, " if self._sketches.n_left_out else ""
        what = f"{of}{rows(n, n_sample)} nearly {are(n, 'repeats', 'repeat')} an earlier one"
        places = tuple(map(self._seen.place, again[:N_PLACES]))
        fix = "keep one of each, unless the difference is what is to be learnt"
        return (Found(self.kind, "high" if n >= HIGH * n_sample else "low", what, fix, n, places),)
