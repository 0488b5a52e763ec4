"""A metric over all rows of a model: the scores, their mean with its interval, and two models on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.metrics import _statistics
from tunesmith.metrics._contract import Metric, Row


@dataclass(frozen=True)
class Scores:
    """A score for each row, None where the metric does not apply, and what each row counts in the mean."""

    values: Sequence[float | None]
    weights: Sequence[float]

    def mean(self) -> _statistics.Interval | None:
        """The mean over the rows to which the metric applies; None when there are none."""
        places = [place for place, one in enumerate(self.values) if one is not None]
        values, weights = self._at(places)
        return _statistics.mean(values, weights) if values else None

    def against(self, other: Scores) -> _statistics.Difference | None:
        """These less the other model's, on the rows to which the metric applies in both; None when there are none.

        Raises:
            ValueError: they are not of the same rows.
        """
        pairs = enumerate(zip(self.values, other.values, strict=True))
        places = [place for place, pair in pairs if None not in pair]
        (ours, weights), (theirs, _) = self._at(places), other._at(places)
        return _statistics.difference(ours, theirs, weights) if ours else None

    def _at(self, places: Sequence[int]) -> tuple[list[float], list[float]]:
        values = [one for place in places if (one := self.values[place]) is not None]
        return values, [self.weights[place] for place in places]


def scores(metric: Metric, rows: Sequence[Row]) -> Scores:
    """The score of each row, in order."""
    weights = [float(len(row.logprobs)) if metric.per == "token" else 1.0 for row in rows]
    return Scores([metric.score(row) for row in rows], weights)
