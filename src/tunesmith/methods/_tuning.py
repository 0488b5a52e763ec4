from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

from tunesmith.errors import Fault
from tunesmith.machine import Machine
from tunesmith.recipe import Part
from tunesmith.weights.estimate import Footprint
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

    def footprint(self, base: BaseFacts) -> Footprint:
        """Nothing besides the weights that move."""
        return Footprint()

    def lead(self, base: BaseFacts) -> tuple[int, ...]:
        """No tokens stand before a row."""
        return ()

    def words(self, base: BaseFacts) -> Mapping[str, int]:
        """The tokenizer stays the base's."""
        return {}

    def rates(self, model: nn.Module) -> Mapping[str, float]:
        """All weights learn at one rate."""
        return {}

    def on_layers(self, base: BaseFacts, layers: Sequence[int]) -> Self:
        """All layers alike: it does the same to some of them."""
        return self
