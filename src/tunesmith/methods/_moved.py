"""What the methods share that move weights of the model itself: kept by name, and at rest as they stand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tunesmith.methods._tuning import Tuning

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

WEIGHTS = "weights.safetensors"


class Moved(Tuning):
    """Weights of the model itself move, all of them or some; nothing is put beside them."""

    keeps_base: ClassVar[bool] = False

    def save(self, model: nn.Module, into: Path) -> None:
        """Those that ask for a gradient, as they are trained, by name; tied ones once."""
        from safetensors.torch import save_file

        into.mkdir(parents=True, exist_ok=True)
        moved = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        save_file({name: weight.detach().contiguous().cpu() for name, weight in moved.items()}, into / WEIGHTS)

    def load(self, model: nn.Module, folder: Path) -> None:
        """Put them back, each in its place.

        Raises:
            KeyError, ValueError: those of the folder are not those that move.
        """
        import torch
        from safetensors.torch import load_file

        kept = load_file(folder / WEIGHTS)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.requires_grad:
                    weight.copy_(kept.pop(name))
        if kept:
            raise ValueError(f"weights that do not move in this model: {sorted(kept)[:3]}")

    def settle(self, model: nn.Module) -> PreTrainedModel:
        """It is at rest as it stands."""
        return model  # type: ignore[return-value]
