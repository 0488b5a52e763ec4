from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tunesmith.metrics import _json, _kinds
from tunesmith.metrics._contract import Row
from tunesmith.metrics._row_by_row import RowByRow


class JsonMatch(RowByRow):
    """1 where the answer is the same JSON: spaces and the order of keys play no part, the order of lists does.

    A code fence around the answer is taken off, as applications do. It does not apply to a row whose wanted answer is
    no JSON.
    """

    kind: ClassVar[str] = "json_match"
    asks: ClassVar[str] = "is the answer the same JSON as a whole?"

    def fits(self, wanted: Sequence[str]) -> str:
        """Where the answers are JSON objects or lists."""
        return _kinds.reason(wanted, "json")

    def score(self, row: Row) -> float | None:
        """1 or 0."""
        wanted = _json.read(row.wanted)
        return None if wanted is _json.NotJson else float(_json.same(wanted, _json.read(row.said)))
