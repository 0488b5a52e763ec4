"""Examples to tokens, with the faults of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tunesmith import say
from tunesmith.errors import DataError, Fault
from tunesmith.objectives._contract import Objective
from tunesmith.text.example import Example, Tokens
from tunesmith.text.lost import unwritten
from tunesmith.text.template import Text


@dataclass(frozen=True)
class Prepared:
    """The examples that gave sequences, in order, each with its own; and every fault."""

    rows: list[tuple[Example, list[Tokens]]]
    faults: list[Fault]

    @property
    def n_examples(self) -> int:
        """How many examples gave sequences."""
        return len(self.rows)

    @cached_property
    def tokens(self) -> list[Tokens]:
        """All sequences."""
        return [one for _, made in self.rows for one in made]

    @cached_property
    def n_tokens(self) -> int:
        """All tokens of all sequences."""
        return sum(len(one.ids) for one in self.tokens)

    @cached_property
    def n_learnt(self) -> int:
        """Tokens that carry loss."""
        return sum(sum(weight > 0 for weight in one.weights) for one in self.tokens)


def prepare(examples: Sequence[Example], objective: Objective, text: Text, max_length: int) -> Prepared:
    """The examples as an objective has them learnt. A fault that concerns the whole base is there once."""
    rows: list[tuple[Example, list[Tokens]]] = []
    faults: dict[Fault, None] = {}
    lost: Counter[str] = Counter()
    with say.progress("tokenize", len(examples), "rows") as bar:
        for example in examples:
            bar.advance(1)
            refused = objective.refuse(example, text)
            if refused:
                faults.update(dict.fromkeys(refused))
                continue
            try:
                made = objective.weigh(example, text, max_length)
            except DataError as error:
                faults.update(dict.fromkeys(error.faults))
                continue
            if not made:
                continue
            rows.append((example, made))
            if example.is_chat:
                lost.update(unwritten(example, text, made))
    for told, count in lost.items():
        say.warn(f"the base's chat template does not write {told}, so the model never sees them: {count:,} rows")
    return Prepared(rows, list(faults))
