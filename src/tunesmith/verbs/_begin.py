"""A model as a method begins to move it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tunesmith.learn.settings import Settings
    from tunesmith.weights.facts import BaseFacts


def put_on(method: Any, loaded: Any, facts: BaseFacts, settings: Settings) -> nn.Module:
    """A loaded base with the method put on, each weight in the type that it learns or stands in."""
    import torch

    torch.manual_seed(settings.seed)
    model: nn.Module = method.wrap(loaded, facts)
    if not method.keeps_base:
        _cast_kept(model, settings.torch_dtype)
    return model


def _cast_kept(model: nn.Module, dtype: torch.dtype) -> None:
    """What stays as it is stands in the type of the products: no cast at each step, and half the memory."""
    for weight in model.parameters():
        if not weight.requires_grad:
            weight.data = weight.data.to(dtype)
