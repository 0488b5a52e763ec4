from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from tunesmith.metrics._contract import Figure, Row, Unit
from tunesmith.metrics._row_by_row import RowByRow


class Perplexity(RowByRow):
    """Nats a token: how surprised the model is by the wanted answer, whatever it says itself. Lower is better.

    The mean over rows counts each token once, as the held-out loss of the training does. It does not apply to a row
    without `logprobs`.
    """

    kind: ClassVar[str] = "perplexity"
    asks: ClassVar[str] = "how surprised is the model by the wanted answer?"
    unit: ClassVar[Unit] = "nats"
    higher_is_better: ClassVar[bool] = False
    per: ClassVar[Literal["row", "token"]] = "token"

    def fits(self, wanted: Sequence[str]) -> str:
        """Of every answer."""
        return "every answer's tokens have a probability" if wanted else ""

    def score(self, row: Row) -> float | None:
        """The mean over the tokens of this row; infinite where the model holds one for impossible."""
        return -sum(row.logprobs) / len(row.logprobs) if row.logprobs else None

    def together(self, rows: Sequence[Row]) -> Mapping[str, Figure]:
        """`perplexity`: e to the nats a token. `nats_per_character`: what models of other tokenizers compare by."""
        rows = [row for row in rows if row.logprobs]
        if not rows:
            return {}
        nats = -sum(sum(row.logprobs) for row in rows)
        a_token = nats / sum(len(row.logprobs) for row in rows)
        n_characters = sum(len(row.wanted) for row in rows)
        found = {"perplexity": math.exp(a_token) if a_token < 700 else math.inf}  # e^700 is about the largest float
        return {**found, "nats_per_character": nats / n_characters} if n_characters else found
