from __future__ import annotations

from typing import ClassVar, Protocol

from tunesmith.errors import DataError, Fault
from tunesmith.text.example import Example, Tokens
from tunesmith.text.template import Text


class TooLongError(DataError):
    """An example has `n_tokens`, which is more than it may have."""

    def __init__(self, fault: Fault, n_tokens: int) -> None:
        super().__init__(fault)
        self.n_tokens = n_tokens


class Objective(Protocol):
    """Which tokens carry loss. Members are Parts of the recipe."""

    kind: ClassVar[str]

    def refuse(self, example: Example, text: Text) -> list[Fault]:
        """Why this example cannot be learnt from under this objective; empty when it can. Fast: nothing is rendered."""

    def weigh(self, example: Example, text: Text, max_length: int) -> list[Tokens]:
        """The example as tokens with a loss weight each, in pieces of at most `max_length` tokens.

        The first token of a piece has weight 0: nothing stands before it.

        Raises:
            DataError: with every fault that only rendering and counting can show.
            TooLongError: when there are too many tokens.
        """
