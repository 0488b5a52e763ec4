from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tunesmith.metrics import _kinds, _numbers
from tunesmith.metrics._contract import Row
from tunesmith.metrics._row_by_row import RowByRow


class Number(RowByRow):
    """1 where the answer ends in the wanted number: the one behind `####`, as in GSM8K, else the last of the text.

    They are compared as numbers: `1,000`, `$1000.00` and `1000 km` are one. It does not apply to a row whose wanted
    answer has no number.
    """

    kind: ClassVar[str] = "number"
    asks: ClassVar[str] = "does the answer end in the wanted number?"

    def fits(self, wanted: Sequence[str]) -> str:
        """Where the answers are numbers, or end in one behind `####`."""
        return _kinds.reason(wanted, "numbers")

    def score(self, row: Row) -> float | None:
        """1 or 0."""
        wanted = _numbers.result(row.wanted)
        return None if wanted is None else float(_numbers.result(row.said) == wanted)
