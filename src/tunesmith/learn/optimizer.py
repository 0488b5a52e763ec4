"""How the weights move: AdamW, its rate over the steps, and its state as plain tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from tunesmith.learn.settings import Settings


def make(model: nn.Module, settings: Settings, rates: Mapping[str, float] | None = None) -> torch.optim.AdamW:
    """AdamW over what requires a gradient; only matrices decay: a decayed norm or bias is pulled off its scale.

    `rates` names weights that learn at a multiple of the rate.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            groups.setdefault(((rates or {}).get(name, 1.0), weight.ndim >= 2), []).append(weight)
    told = [
        {"params": weights, "weight_decay": settings.weight_decay if decays else 0.0, "times": times}
        for (times, decays), weights in groups.items()
    ]
    return torch.optim.AdamW(told, lr=settings.learning_rate, fused=True)


def rate(step: int, settings: Settings) -> float:
    """The learning rate of a step (from 1): up in a straight line, then down half a cosine to nothing."""
    warm = math.ceil(settings.warmup_ratio * settings.steps)
    if step <= warm:
        return settings.learning_rate * step / warm
    done = (step - warm - 1) / max(1, settings.steps - warm)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """The learning rate from now on; of some weights a multiple of it."""
    for group in optimizer.param_groups:
        group["lr"] = value * group["times"]


def state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's memory by `weight name|what`, as tensors alone, so that no pickle is ever read back."""
    held: Mapping[Tensor, Mapping[str, Tensor]] = optimizer.state
    return {
        f"{name}|{what}": tensor.detach().cpu().clone()
        for name, weight in model.named_parameters()
        if weight in held
        for what, tensor in held[weight].items()
    }


def load_state(model: nn.Module, optimizer: torch.optim.Optimizer, kept: Mapping[str, Tensor]) -> None:
    """Put back what `state` gave, into a new optimizer over the same weights."""
    weights = dict(model.named_parameters())
    for key, tensor in kept.items():
        name, _, what = key.rpartition("|")
        weight = weights[name]
        place = tensor if what == "step" else tensor.to(weight.device)
        optimizer.state[weight][what] = place.to(weight.device) if weight.device.type != "cpu" else place
