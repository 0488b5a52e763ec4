from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from tunesmith.methods._soft import SoftPrompt
from tunesmith.recipe import Auto
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from torch import Tensor, nn


class Ptuning(SoftPrompt):
    """A soft prompt that a small network makes while it learns; only its rows are kept. The base stays as it is.

    P-tuning, Liu et al. 2021. What is called P-tuning v2 has keys and values in every layer: that is method prefix.
    """

    kind: ClassVar[str] = "ptuning"
    learning_rate: ClassVar[float] = 1e-1

    encoder: Literal["mlp", "lstm"] = "mlp"
    """The network: two layers, or a bidirectional LSTM of two layers before them, as in the paper."""
    hidden: PositiveInt | Auto = "auto"
    """Width of the network, in columns; auto: the base's width, for an LSTM half of it in each direction."""

    def _width(self, base_width: int) -> int:
        if self.hidden != "auto":
            return self.hidden
        return base_width // 2 if self.encoder == "lstm" else base_width

    def moves(self, base: BaseFacts) -> Mapping[str, int]:
        """The embedding that the network reads, and the network: weights and biases."""
        d = base.hidden_size
        h = self._width(d)
        n = {"embedding": self.length * d}
        if self.encoder == "lstm":
            # Four gates a direction, each with two biases; the second layer reads both directions of the first.
            n["lstm"] = 2 * (4 * h * (d + h + 2) + 4 * h * (2 * h + h + 2))
        inner = 2 * h if self.encoder == "lstm" else h
        read = inner if self.encoder == "lstm" else d
        n["mlp"] = (read + 1) * inner + (inner + 1) * d
        return n

    def rates(self, model: nn.Module) -> Mapping[str, float]:
        """The network learns at a width's share: what it gives then moves about as far a step as plain rows would."""
        from tunesmith.methods._layers_soft import Encoded

        (name, encoded), *_ = [pair for pair in model.named_modules() if isinstance(pair[1], Encoded)]
        share = min(1.0, 4 / encoded.network[0].out_features)
        return {f"{name}.{part}": share for part, _ in encoded.named_parameters() if part != "embedding"}

    def rows(self, start: Tensor, spread: float) -> nn.Module:
        """The network that makes the rows."""
        from tunesmith.methods._layers_soft import Encoded

        return Encoded(start, spread, self._width(start.shape[1]), lstm=self.encoder == "lstm")
