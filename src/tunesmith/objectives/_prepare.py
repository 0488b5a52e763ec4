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
    """Sequences in the order of the examples, and every fault.

    `n_examples` counts the examples that gave sequences.
    """

    tokens: list[Tokens]
    faults: list[Fault]
    n_examples: int

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
    tokens: list[Tokens] = []
    faults: dict[Fault, None] = {}
    n_examples = 0
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
            tokens.extend(made)
            n_examples += bool(made)
            if made and example.is_chat:
                lost.update(unwritten(example, text, made))
    for told, count in lost.items():
        say.warn(f"the base's chat template does not write {told}, so the model never sees them: {count:,} rows")
    return Prepared(tokens, list(faults), n_examples)
