from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from tunesmith.methods._soft import SoftPrompt
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from torch import Tensor, nn


class Prompt(SoftPrompt):
    """A soft prompt: some rows before all tokens learn, and nothing else moves. The base stays as it is.

    Prompt tuning, Lester et al. 2021. At rest each row is a token of the vocabulary, put first by the chat template.
    """

    kind: ClassVar[str] = "prompt"
    learning_rate: ClassVar[float] = 1e-2

    def moves(self, base: BaseFacts) -> Mapping[str, int]:
        """Length x width."""
        return {"soft prompt": self.length * base.hidden_size}

    def rows(self, start: Tensor) -> nn.Module:
        """The rows themselves."""
        from tunesmith.methods._layers_soft import Rows

        return Rows(start)
