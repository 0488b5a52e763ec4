from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from tunesmith.methods._soft import SoftPrompt, led_of
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from torch import Tensor, nn


class Prompt(SoftPrompt):
    """A soft prompt: some rows before all tokens learn, and nothing else moves. The base stays as it is.

    Prompt tuning, Lester et al. 2021. At rest each row is a token of the vocabulary, put first by the chat template.
    """

    kind: ClassVar[str] = "prompt"
    learning_rate: ClassVar[float] = 1e-1

    def moves(self, base: BaseFacts) -> Mapping[str, int]:
        """Length x width."""
        return {"soft prompt": self.length * base.hidden_size}

    def rates(self, model: nn.Module) -> Mapping[str, float]:
        """The rows learn in proportion to how large the base's own are."""
        from tunesmith.methods._layers_soft import Rows
        from tunesmith.weights.soft_rows import spread_of

        led: Any = led_of(model)
        spread = spread_of(led.base)
        return {f"{name}.weight": spread for name, one in model.named_modules() if isinstance(one, Rows)}

    def rows(self, start: Tensor, spread: float) -> nn.Module:
        """The rows themselves."""
        from tunesmith.methods._layers_soft import Rows

        return Rows(start)
