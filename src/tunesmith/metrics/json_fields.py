from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import ClassVar

from tunesmith.metrics import _json, _kinds
from tunesmith.metrics._contract import Figure, Row
from tunesmith.metrics._row_by_row import RowByRow


class JsonFields(RowByRow):
    """F1 of the fields of a row: each key path with its value is one, and is right or wrong as a whole.

    An answer that is no JSON has no fields, so its row has 0. The order of keys and of lists plays no part. A code
    fence around the answer is taken off. It does not apply to a row whose wanted answer is no JSON.
    """

    kind: ClassVar[str] = "json_fields"
    asks: ClassVar[str] = "how many of the wanted fields does the JSON have, and how many others?"

    def fits(self, wanted: Sequence[str]) -> str:
        """Where the answers are JSON objects or lists."""
        return _kinds.reason(wanted, "json")

    def score(self, row: Row) -> float | None:
        """2 x right / (said + wanted), from 0 to 1."""
        if _json.read(row.wanted) is _json.NotJson:
            return None
        said, wanted = _fields(row.said), _fields(row.wanted)
        return _f1((said & wanted).total(), said.total(), wanted.total())

    def together(self, rows: Sequence[Row]) -> Mapping[str, Figure]:
        """`valid`: the share of answers that are JSON. `precision`, `recall` and `f1` over the fields of all rows."""
        rows = [row for row in rows if _json.read(row.wanted) is not _json.NotJson]
        if not rows:
            return {}
        pairs = [(_fields(row.said), _fields(row.wanted)) for row in rows]
        n_right = sum((said & wanted).total() for said, wanted in pairs)
        n_said = sum(said.total() for said, _ in pairs)
        n_wanted = sum(wanted.total() for _, wanted in pairs)
        return {
            "valid": sum(_json.read(row.said) is not _json.NotJson for row in rows) / len(rows),
            "precision": n_right / n_said if n_said else 0.0,
            "recall": n_right / n_wanted,
            "f1": _f1(n_right, n_said, n_wanted),
        }


def _fields(text: str) -> Counter[Hashable]:
    value = _json.read(text)
    return Counter() if value is _json.NotJson else _json.fields(value)


def _f1(n_right: int, n_said: int, n_wanted: int) -> float:
    return 2 * n_right / (n_said + n_wanted)
