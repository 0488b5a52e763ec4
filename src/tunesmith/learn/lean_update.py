"""LoRA on a frozen matrix, plain or in four bits, in one step: little is kept, and sums are made where they stand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.weights import nf4


def is_plain_update(layer: nn.Module) -> bool:
    """Whether it is PEFT's LoRA on a frozen matrix, of one adapter that nothing else is done to."""
    return is_lone_update(layer)


def is_lone_update(layer: nn.Module, variant: str | None = None) -> bool:
    """Whether it is one update of a frozen matrix, of that class of PEFT's variants if any; no dropout, no bias."""
    if not type(layer).__module__.startswith("peft."):
        return False  # without loading PEFT, and what it loads, for a run that has none of it
    from peft.tuners.lora import Linear

    if type(layer) is not Linear or layer.merged or layer.disable_adapters or len(layer.active_adapters) != 1:
        return False
    (name,) = layer.active_adapters
    base: Any = layer.base_layer
    return (
        (type(base) is nn.Linear or nf4.is_packed(base))
        and not base.weight.requires_grad
        and name in layer.lora_A
        and variant == (type(layer.lora_variant[name]).__name__ if name in layer.lora_variant else None)
        and type(layer.lora_dropout[name]) is nn.Identity
        and layer.lora_B[name].bias is None
        and not layer.fan_in_fan_out
    )


def updated(layer: Any, dtype: torch.dtype, x: Tensor) -> Tensor:
    """What such a layer gives for x (.., inputs), its products in `dtype`."""
    made, bias = without_bias(layer, dtype, x), layer.base_layer.bias
    return made if bias is None else made + bias.to(dtype)


def without_bias(layer: Any, dtype: torch.dtype, x: Tensor) -> Tensor:
    """The same without the bias."""
    (name,) = layer.active_adapters
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    made: Tensor = _Updated.apply(x, frozen_of(layer, dtype), a, b, layer.scaling[name], dtype)
    return made


def frozen_of(layer: Any, dtype: torch.dtype) -> Callable[[], Tensor]:
    """What gives its frozen matrix (outputs, inputs) in `dtype`, from four bits where it is in those."""
    base = layer.base_layer
    return partial(nf4.weight_of, base, dtype) if nf4.is_packed(base) else partial(base.weight.to, dtype)


class _Updated(torch.autograd.Function):
    """x W' + s x A' B', for x (.., inputs), W (outputs, inputs), A (R, inputs) and B (outputs, R); W stays as it is.

    What goes back is kept once, in the type of the products, and each sum is made where its first part stands. W is
    given by a function, which is called again on the way back: from four bits it is made anew, and never kept.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, frozen: Callable[[], Tensor], a: Tensor, b: Tensor, scale: float, dtype: torch.dtype
    ) -> Tensor:
        rows, a, b = (one.to(dtype) for one in (x.reshape(-1, x.shape[-1]), a, b))
        with torch.autocast(x.device.type, enabled=False):
            narrow = rows @ a.T  # (T, R)
            out = (rows @ frozen().T).addmm_(narrow, b.T, alpha=scale)
        ctx.save_for_backward(rows, narrow, a, b)
        ctx.frozen, ctx.scale, ctx.shape, ctx.dtype = frozen, scale, x.shape, x.dtype
        return out.reshape(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        rows, narrow, a, b = ctx.saved_tensors
        given = upstream[0].reshape(-1, upstream[0].shape[-1])
        slope = (given @ b).mul_(ctx.scale)  # (T, R)
        slope_a = (slope.T @ rows).float()
        slope_b = (given.T @ narrow).float().mul_(ctx.scale)
        slope_x = None
        if ctx.needs_input_grad[0]:
            slope_x = (given @ ctx.frozen()).addmm_(slope, a).reshape(ctx.shape).to(ctx.dtype)
        return slope_x, None, slope_a, slope_b, None, None
