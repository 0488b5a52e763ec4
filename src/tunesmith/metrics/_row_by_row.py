from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from tunesmith.errors import Fault
from tunesmith.metrics._contract import Figure, Row, Unit
from tunesmith.recipe import Part


class RowByRow(Part):
    """What is so for most metrics; a metric says otherwise where it is another."""

    unit: ClassVar[Unit] = "share"
    higher_is_better: ClassVar[bool] = True
    per: ClassVar[Literal["row", "token"]] = "row"

    def refuse(self) -> list[Fault]:
        """Nothing."""
        return []

    def together(self, rows: Sequence[Row]) -> Mapping[str, Figure]:
        """Nothing: the mean says all."""
        return {}
