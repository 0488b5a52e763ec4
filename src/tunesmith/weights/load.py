"""Models from folders: empty ones that have only shapes, and loaded ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def empty(folder: Path) -> PreTrainedModel:
    """The model of a folder's config with shapes and no memory (the meta device), its tied weights tied."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    model.tie_weights()
    return model  # type: ignore[no-any-return]


def load(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The model of a folder, in evaluation mode, on the CPU."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    return model.eval()  # type: ignore[no-any-return]
