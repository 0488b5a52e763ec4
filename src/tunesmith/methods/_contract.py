from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self

from tunesmith.errors import Fault
from tunesmith.machine import Machine
from tunesmith.weights.estimate import Footprint
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Delivery:
    """Whether a method reaches an export: `exact` and how, or `refused` and why, and which method would get there."""

    kind: Literal["exact", "refused"]
    how: str
    instead: str = ""


class Method(Protocol):
    """Which weights move, and how they come to rest. Members are Parts of the recipe."""

    kind: ClassVar[str]
    learning_rate: ClassVar[float]  # the default peak for AdamW, on a base of a billion weights
    keeps_base: ClassVar[bool]  # the base's own weights stay as they are: what is learnt is an adapter beside them

    def refuse(self, base: BaseFacts, machine: Machine) -> list[Fault]:
        """Why this cannot be done to this base; nothing is loaded for it."""

    def moves(self, base: BaseFacts) -> Mapping[str, int]:
        """How many weights will move, by formula, and by the part of the model that they belong to."""

    def trainable(self, base: BaseFacts) -> int:
        """How many weights will move: the sum of `moves`."""

    def footprint(self, base: BaseFacts) -> Footprint:
        """What it takes of memory and disk besides the weights that move."""

    def lead(self, base: BaseFacts) -> tuple[int, ...]:
        """The ids of tokens that stand before every row; their rows of the embedding are what is learnt."""

    def words(self, base: BaseFacts) -> Mapping[str, int]:
        """Tokens that the base's tokenizer lacks and the model has, with the ids that they get."""

    def wrap(self, model: PreTrainedModel, base: BaseFacts) -> nn.Module:
        """Put on: afterwards exactly this method's weights require a gradient, and they are float32."""

    def rates(self, model: nn.Module) -> Mapping[str, float]:
        """Weights by name that learn at a multiple of the run's rate."""

    def on_layers(self, base: BaseFacts, layers: Sequence[int]) -> Self:
        """What it does to these layers of the base, by number from 0, as a method for a model that has no others."""

    def save(self, model: nn.Module, into: Path) -> None:
        """Write what was learnt, and only that, into a folder, as safetensors."""

    def load(self, model: nn.Module, folder: Path) -> None:
        """Put back what `save` wrote, into a wrapped model."""

    def settle(self, model: nn.Module) -> PreTrainedModel:
        """Come to rest: a model with the same answers, computed in float32. The wrapped model may be used up.

        It is plain, or has what `weights.additions` knows. Rows of its embedding may have come for the ids of `lead`
        and `words`.
        """

    def delivers(self, base: BaseFacts | None) -> Mapping[str, Delivery]:
        """Where the result can go: one entry for each member of `exports`. Without a base: where it goes with most."""
