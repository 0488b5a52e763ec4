from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from tunesmith.errors import Fault
from tunesmith.machine import Machine
from tunesmith.recipe import Part
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from torch import nn


class Tuning(Part):
    """What is so for most methods; a method says otherwise where it is another."""

    keeps_base: ClassVar[bool] = True

    def refuse(self, base: BaseFacts, machine: Machine) -> list[Fault]:
        """Nothing."""
        return []

    def moves(self, base: BaseFacts) -> Mapping[str, int]:
        """Weights that will move, by the part of the model that they belong to."""
        raise NotImplementedError

    def trainable(self, base: BaseFacts) -> int:
        """How many weights will move."""
        return sum(self.moves(base).values())

    def adds(self, base: BaseFacts) -> int:
        """The model at rest has as many weights as the base."""
        return 0

    def lowest(self, base: BaseFacts) -> int:
        """The backward pass goes through all layers."""
        return 0

    def lead(self, base: BaseFacts) -> tuple[int, ...]:
        """No tokens stand before a row."""
        return ()

    def words(self, base: BaseFacts) -> Mapping[str, int]:
        """The tokenizer stays the base's."""
        return {}

    def beside(self, base: BaseFacts) -> int:
        """A row attends to nothing but its own tokens."""
        return 0

    def leaves(self, base: BaseFacts) -> int:
        """What a token leaves for the backward pass is the base's own."""
        return 0

    def leaves_at_end(self, base: BaseFacts) -> int:
        """Nothing: the logits are made a chunk at a time."""
        return 0

    def packed(self, base: BaseFacts) -> tuple[int, int]:
        """None, and nothing: the base stands in the type of the products, and alone."""
        return 0, 0

    def kept(self, base: BaseFacts) -> int:
        """The weights that move."""
        return self.trainable(base)

    def rates(self, model: nn.Module) -> Mapping[str, float]:
        """All weights learn at one rate."""
        return {}
