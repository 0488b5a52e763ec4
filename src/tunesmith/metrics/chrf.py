from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from tunesmith.errors import Fault, RuntimeFault
from tunesmith.metrics import _kinds, _libraries
from tunesmith.metrics._contract import Figure, Row, Unit
from tunesmith.metrics._row_by_row import RowByRow


class Chrf(RowByRow):
    """chrF2: how far the answer's pieces of one to six characters are those of the wanted one, from 0 to 100 points.

    It needs no words, so it serves every script. Computed by sacrebleu (Popović 2015).
    """

    kind: ClassVar[str] = "chrf"
    asks: ClassVar[str] = "how much of the wanted text does the answer share, in pieces of characters?"
    unit: ClassVar[Unit] = "points"

    def refuse(self) -> list[Fault]:
        """Where sacrebleu is not installed."""
        return _libraries.missing("sacrebleu", "sacrebleu")

    def fits(self, wanted: Sequence[str]) -> str:
        """Of texts longer than a line."""
        return _kinds.reason(wanted, "long")

    def score(self, row: Row) -> float:
        """Points of one answer; two empty ones are the same."""
        if not row.wanted.strip() and not row.said.strip():
            return 100.0
        return float(self._chrf().sentence_score(row.said, [row.wanted]).score)

    def together(self, rows: Sequence[Row]) -> Mapping[str, Figure]:
        """`corpus`: chrF2 of all rows as one text, as papers give it."""
        if not rows:
            return {}
        said, wanted = [row.said for row in rows], [row.wanted for row in rows]
        return {"corpus": float(self._chrf().corpus_score(said, [wanted]).score)}

    def _chrf(self) -> Any:
        if faults := self.refuse():
            raise RuntimeFault(faults)
        from sacrebleu.metrics.chrf import CHRF

        return CHRF()
