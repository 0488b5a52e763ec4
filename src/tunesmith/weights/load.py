"""Models from folders: empty ones that have only shapes, and loaded ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tunesmith.weights import additions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def empty(folder: Path) -> PreTrainedModel:
    """The model of a folder's config with shapes and no memory (the meta device), its tied weights tied."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    model.tie_weights()
    return model  # type: ignore[no-any-return]


def load(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The model of a folder with what it has beside its weights, in evaluation mode, on the CPU."""
    from transformers import AutoModelForCausalLM

    with quiet():
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
    told = additions.read(folder)
    if told is not None:
        additions.put_on(model, told)
        additions.fill(model, folder)
        model.to(dtype)  # type: ignore[arg-type]
    return model.eval()  # type: ignore[no-any-return]


@contextmanager
def quiet() -> Iterator[None]:
    """Transformers draws no bars of its own within this block: progress is ours to show."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()
