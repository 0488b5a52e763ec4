from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tunesmith.metrics import _kinds
from tunesmith.metrics._contract import Row
from tunesmith.metrics._row_by_row import RowByRow


class ExactMatch(RowByRow):
    """1 where the answer is the wanted one, letter by letter; spaces and line ends around both play no part."""

    kind: ClassVar[str] = "exact_match"
    asks: ClassVar[str] = "is the answer the wanted one, letter by letter?"

    def fits(self, wanted: Sequence[str]) -> str:
        """Of short answers; of labels, `label` says the same and more."""
        return _kinds.reason(wanted, "short")

    def score(self, row: Row) -> float:
        """1 or 0."""
        return float(row.said.strip() == row.wanted.strip())
