from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from tunesmith.methods._contract import Delivery
from tunesmith.methods._moved import Moved
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Full(Moved):
    """Every weight moves. The most that can be learnt, and the most memory: 16 bytes a weight."""

    kind: ClassVar[str] = "full"
    learning_rate: ClassVar[float] = 5e-5

    def moves(self, base: BaseFacts) -> Mapping[str, int]:
        """All weights; tied ones count once."""
        return {"all weights": base.n_parameters}

    def wrap(self, model: PreTrainedModel, base: BaseFacts) -> nn.Module:
        """The model itself, in float32, each weight asking for a gradient."""
        return model.float().requires_grad_(True)  # type: ignore[no-any-return]

    def delivers(self, base: BaseFacts | None) -> Mapping[str, Delivery]:
        """Everywhere: a fully tuned model is a plain model."""
        plain = Delivery("exact", "the weights themselves")
        return {"safetensors": plain, "gguf": plain, "ollama": plain, "web": plain}
