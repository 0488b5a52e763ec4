"""A metric looks at one asked row and gives a number; what is only defined over all rows it gives beside.

Every metric takes a `Row` and not two texts, so that those which look at more (the judge at the question, perplexity
at probabilities) keep the same contract. `fits` gives its reason in words, which is empty where it has none: choosing
metrics and saying why is then one loop over the room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from tunesmith.errors import Fault

Unit = Literal["share", "points", "nats", "grade"]  # of one; 0 to 100; natural logarithms; 1 to 5
Figure = float | Sequence[Mapping[str, str | int]]  # a number, or a table of a few lines


@dataclass(frozen=True)
class Row:
    """One asked row of held-out data.

    `said` is the answer, without special tokens, and `wanted` the one in the data. `asked` is what was asked, in words.
    `logprobs` are the natural log-probabilities that the model gives to each token of the wanted answer after that
    prompt, its end token included; empty where the runtime cannot tell.
    """

    said: str
    wanted: str
    asked: str = ""
    logprobs: Sequence[float] = ()


class Metric(Protocol):
    """How good is an answer?"""

    kind: ClassVar[str]
    asks: ClassVar[str]  # the question, as a person would ask it
    unit: ClassVar[Unit]
    higher_is_better: ClassVar[bool]
    per: ClassVar[Literal["row", "token"]]  # what counts once in the mean: a row, or each of its `logprobs`

    def refuse(self) -> list[Fault]:
        """What keeps it from working on this machine. Fast: nothing is loaded, nobody is asked."""

    def fits(self, wanted: Sequence[str]) -> str:
        """Why it says something of such answers; empty when it does not, or when a person has to ask for it."""

    def score(self, row: Row) -> float | None:
        """How good this answer is, in `unit`; None where the metric does not apply to the row.

        Raises:
            RuntimeFault: `metric/...`, when it cannot work here; `refuse` says so before.
        """

    def together(self, rows: Sequence[Row]) -> Mapping[str, Figure]:
        """What is only defined over all rows, by name; empty when nothing is, or no row applies."""
