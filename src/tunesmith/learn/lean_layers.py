"""Layers computed with fewer passes over the memory while they learn: the same numbers, up to the rounding of the type.

A layer is recognised by what it is, never by the method that put it there, and is as it was afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.learn.lean_gate import gated, is_gated

LAYERS = frozenset({"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer"})
RMS_NORMS = frozenset({"LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"})


@contextmanager
def lean_layers(model: nn.Module, dtype: torch.dtype) -> Iterator[int]:
    """Layers that are known here go the lean way within this block, with products in `dtype`; gives how many do."""
    layers = list(model.modules())
    found = [(layer, _lean_forward(layer, dtype)) for layer in layers]
    if any(_is_rms_norm(layer) for layer in layers):
        found += [(layer, partial(_embedded, layer)) for layer in layers if _is_rounded_embedding(layer)]
    changed = [(layer, forward) for layer, forward in found if forward is not None]
    for layer, forward in changed:
        layer.forward = forward  # hides the one of its class
    try:
        yield len(changed)
    finally:
        for layer, _ in changed:
            del layer.forward


def _lean_forward(layer: nn.Module, dtype: torch.dtype) -> Callable[..., Tensor] | None:
    if _is_plain_update(layer):
        return partial(_updated, layer, dtype)
    if _is_rms_norm(layer):
        return partial(_normed, layer, dtype)
    if is_gated(layer):
        return partial(gated, layer)
    if type(layer).__name__ in LAYERS and not getattr(layer, "gradient_checkpointing", False):
        return partial(_layer, layer)
    return None


def _layer(layer: Any, hidden_states: Tensor, **named: Any) -> Tensor:
    """The layer, with each sum in the type that comes in: a sum of two types takes ten times as long."""
    attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden_states), **named)
    halfway = hidden_states + attended.to(hidden_states.dtype)
    made: Tensor = halfway + layer.mlp(layer.post_attention_layernorm(halfway)).to(hidden_states.dtype)
    return made


def _is_rounded_embedding(layer: nn.Module) -> bool:
    return type(layer) is nn.Embedding and not layer.weight.requires_grad and layer.weight.dtype != torch.float32


def _embedded(layer: Any, ids: Tensor) -> Tensor:
    """In float32, and so is all that layers add to it: what is rounded there is rounded anew in each of them."""
    return nn.functional.embedding(ids, layer.weight).float()


def _is_rms_norm(layer: nn.Module) -> bool:
    """Whether it is the norm of Llama and its kin: x / rms(x), rounded, times the weight."""
    return type(layer).__name__ in RMS_NORMS and hasattr(layer, "weight") and hasattr(layer, "variance_epsilon")


def _normed(layer: Any, dtype: torch.dtype, x: Tensor) -> Tensor:
    made: Tensor = _Normed.apply(x, layer.weight, layer.variance_epsilon, dtype)
    return made


class _Normed(torch.autograd.Function):
    """w x / sqrt(mean(x^2) + e) over the last dimension: Zhang and Sennrich 2019, Root Mean Square Layer Normalization.

    Sums are float32; only x and a number for each token are kept for the way back.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()  # (.., 1)
        ctx.save_for_backward(x, scale, weight)
        made: Tensor = (x * scale).mul_(weight.float())
        return made.to(dtype)  # rounded once: twice would turn the gradients far below

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, weight = ctx.saved_tensors
        above, wide, slope = upstream[0].float(), x.float(), None
        if ctx.needs_input_grad[1]:
            slope = (above * wide).mul_(scale).flatten(0, -2).sum(0).to(weight.dtype)
        given = above * weight
        along = torch.linalg.vecdot(given, wide)[..., None] * scale**2 / x.shape[-1]
        return given.addcmul_(wide, along, value=-1.0).mul_(scale).to(x.dtype), slope, None, None


def _is_plain_update(layer: nn.Module) -> bool:
    """Whether it is PEFT's LoRA on a frozen matrix, of one adapter that nothing else is done to."""
    from peft.tuners.lora import Linear

    if type(layer) is not Linear or layer.merged or layer.disable_adapters or len(layer.active_adapters) != 1:
        return False
    (name,) = layer.active_adapters
    base: Any = layer.base_layer
    return (
        type(base) is nn.Linear
        and not base.weight.requires_grad
        and name in layer.lora_A
        and name not in layer.lora_variant
        and type(layer.lora_dropout[name]) is nn.Identity
        and layer.lora_B[name].bias is None
        and not layer.fan_in_fan_out
    )


def _updated(layer: Any, dtype: torch.dtype, x: Tensor) -> Tensor:
    (name,) = layer.active_adapters
    base, a, b = layer.base_layer, layer.lora_A[name].weight, layer.lora_B[name].weight
    made: Tensor = _Updated.apply(x, base.weight, a, b, layer.scaling[name], dtype)
    return made if base.bias is None else made + base.bias.to(dtype)


class _Updated(torch.autograd.Function):
    """x W' + s x A' B', for x (.., inputs), W (outputs, inputs), A (R, inputs) and B (outputs, R); W stays as it is.

    What goes back is kept once, in the type of the products, and each sum is made where its first part stands.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
        rows, weight, a, b = (one.to(dtype) for one in (x.reshape(-1, x.shape[-1]), weight, a, b))
        with torch.autocast(x.device.type, enabled=False):
            narrow = rows @ a.T  # (T, R)
            out = (rows @ weight.T).addmm_(narrow, b.T, alpha=scale)
        ctx.save_for_backward(rows, narrow, weight, a, b)
        ctx.scale, ctx.shape, ctx.dtype = scale, x.shape, x.dtype
        return out.reshape(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        rows, narrow, weight, a, b = ctx.saved_tensors
        given = upstream[0].reshape(-1, upstream[0].shape[-1])
        slope = (given @ b).mul_(ctx.scale)  # (T, R)
        slope_a = (slope.T @ rows).float()
        slope_b = (given.T @ narrow).float().mul_(ctx.scale)
        slope_x = None
        if ctx.needs_input_grad[0]:
            slope_x = (given @ weight).addmm_(slope, a).reshape(ctx.shape).to(ctx.dtype)
        return slope_x, None, slope_a, slope_b, None, None
