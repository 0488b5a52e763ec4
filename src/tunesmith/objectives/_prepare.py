"""Examples to tokens, with the faults of all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tunesmith import say
from tunesmith.errors import DataError, Fault
from tunesmith.objectives._contract import Objective, TooLongError
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


@dataclass(frozen=True)
class Weighed:
    """One example as it is learnt: its sequences, or every fault of it.

    `unwritten` names what the template leaves out of it; `n_tokens` is there where they are too many.
    """

    made: tuple[Tokens, ...] = ()
    faults: tuple[Fault, ...] = ()
    unwritten: tuple[str, ...] = ()
    n_tokens: int | None = None


def weigh(example: Example, objective: Objective, text: Text, max_length: int) -> Weighed:
    """One example as an objective has it learnt."""
    refused = objective.refuse(example, text)
    if refused:
        return Weighed(faults=tuple(refused))
    try:
        made = objective.weigh(example, text, max_length)
    except TooLongError as error:
        return Weighed(faults=error.faults, n_tokens=error.n_tokens)
    except DataError as error:
        return Weighed(faults=error.faults)
    return Weighed(tuple(made), unwritten=tuple(unwritten(example, text, made)) if made and example.is_chat else ())


def tell_unwritten(lost: Mapping[str, int]) -> None:
    """Say what the template leaves out, and of how many rows."""
    for told, count in lost.items():
        say.warn(f"the base's chat template does not write {told}, so the model never sees them: {count:,} rows")


def prepare(examples: Sequence[Example], objective: Objective, text: Text, max_length: int) -> Prepared:
    """The examples as an objective has them learnt. A fault that concerns the whole base is there once."""
    rows: list[tuple[Example, list[Tokens]]] = []
    faults: dict[Fault, None] = {}
    lost: Counter[str] = Counter()
    with say.progress("tokenize", len(examples), "rows") as bar:
        for example in examples:
            bar.advance(1)
            weighed = weigh(example, objective, text, max_length)
            faults.update(dict.fromkeys(weighed.faults))
            lost.update(weighed.unwritten)
            if weighed.made:
                rows.append((example, list(weighed.made)))
    tell_unwritten(lost)
    return Prepared(rows, list(faults))
