from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from tunesmith.errors import Fault
from tunesmith.machine import Machine
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Delivery:
    """Whether a method reaches an export: `exact` and how, or `refused` and why."""

    kind: Literal["exact", "refused"]
    how: str


class Method(Protocol):
    """Which weights move, and how they come to rest. Members are Parts of the recipe."""

    kind: ClassVar[str]
    learning_rate: ClassVar[float]  # the default peak for AdamW, on a base of a billion weights
    keeps_base: ClassVar[bool]  # the base's own weights stay as they are: what is learnt is an adapter beside them

    def refuse(self, base: BaseFacts, machine: Machine) -> list[Fault]:
        """Why this cannot be done to this base; nothing is loaded for it."""

    def trainable(self, base: BaseFacts) -> int:
        """How many weights will move, by formula."""

    def wrap(self, model: PreTrainedModel) -> nn.Module:
        """Put on: afterwards exactly this method's weights require a gradient, and they are float32."""

    def save(self, model: nn.Module, into: Path) -> None:
        """Write what was learnt, and only that, into a folder, as safetensors."""

    def load(self, model: nn.Module, folder: Path) -> None:
        """Put back what `save` wrote, into a wrapped model."""

    def settle(self, model: nn.Module) -> PreTrainedModel:
        """Come to rest: a plain model with the same answers, computed in float32. The wrapped model may be used up."""

    def delivers(self, base: BaseFacts) -> Mapping[str, Delivery]:
        """Where the result can go: one entry for each member of `exports`."""
