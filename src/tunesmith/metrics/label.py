from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar

from tunesmith.metrics import _kinds
from tunesmith.metrics._contract import Figure, Row
from tunesmith.metrics._row_by_row import RowByRow

MOST_CONFUSED = 10


class Label(RowByRow):
    """1 where the label is right, spelt as it stands in the data; spaces and line ends around it play no part.

    Macro-F1 is the mean over the labels that are wanted in the rows, the rare ones as much as the frequent ones.
    """

    kind: ClassVar[str] = "label"
    asks: ClassVar[str] = "is the label right?"

    labels: tuple[str, ...] = ()
    """The labels that may be said, those of the training rows as a rule; left out, those that the rows want."""

    def fits(self, wanted: Sequence[str]) -> str:
        """Where few different answers stand over many rows."""
        return _kinds.reason(wanted, "labels")

    def score(self, row: Row) -> float:
        """1 or 0."""
        return float(row.said.strip() == row.wanted.strip())

    def together(self, rows: Sequence[Row]) -> Mapping[str, Figure]:
        """`macro_f1`; `outside`: the share of answers that are no label; `n_labels`; `confused`: the worst pairs."""
        if not rows:
            return {}
        pairs = Counter((row.wanted.strip(), row.said.strip()) for row in rows)
        wanted = sorted({one for one, _ in pairs})
        known = {one.strip() for one in self.labels} | set(wanted)
        return {
            "macro_f1": _macro_f1(pairs),
            "outside": sum(n for (_, said), n in pairs.items() if said not in known) / len(rows),
            "n_labels": float(len(wanted)),
            "confused": _confused(pairs),
        }


def _macro_f1(pairs: Counter[tuple[str, str]]) -> float:
    wanted: Counter[str] = Counter()
    said: Counter[str] = Counter()
    for (one, other), n in pairs.items():
        wanted[one] += n
        said[other] += n
    return sum(2 * pairs[one, one] / (n + said[one]) for one, n in wanted.items()) / len(wanted)


def _confused(pairs: Mapping[tuple[str, str], int]) -> list[dict[str, str | int]]:
    """The pairs that were taken for each other most often, those of equal number by name."""
    wrong = sorted((-n, wanted, said) for (wanted, said), n in pairs.items() if wanted != said)
    return [{"wanted": wanted, "said": said, "rows": -n} for n, wanted, said in wrong[:MOST_CONFUSED]]
