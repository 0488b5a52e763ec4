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

from tunesmith.learn.lean_dora import Dora, is_dora
from tunesmith.learn.lean_gate import gated, is_gated
from tunesmith.learn.lean_update import is_plain_update, updated

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
    if is_plain_update(layer):
        return partial(updated, layer, dtype)
    if is_dora(layer):
        return Dora(layer, dtype)
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
