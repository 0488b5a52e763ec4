"""DoRA on a frozen matrix: the update of `lean_update.py` with each output stretched.

Liu et al. 2024, DoRA: Weight-Decomposed Low-Rank Adaptation. The lengths that it divides by are reckoned without
making W + s B A, which is as large as W.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.learn.by_block import by_block
from tunesmith.learn.lean_update import frozen_of, is_lone_update, without_bias


def is_dora(layer: nn.Module) -> bool:
    """Whether it is PEFT's DoRA on a frozen matrix, of one adapter that nothing else is done to."""
    return is_lone_update(layer, "DoraLinearVariant")


class Dora:
    """What such a layer gives for x (.., inputs), its products in `dtype`. The rows of W are measured once."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        self.layer, self.dtype = layer, dtype
        with torch.no_grad():
            self.squares = frozen_of(layer, torch.float32)().square().sum(1)  # (outputs,)

    def __call__(self, x: Tensor) -> Tensor:
        """In the type of the products (.., outputs)."""
        (name,) = self.layer.active_adapters
        factor = self.layer.lora_magnitude_vector[name].weight.float() / self._lengths(name)  # (outputs,)
        made: Tensor = _Stretched.apply(without_bias(self.layer, self.dtype, x), factor)
        bias = self.layer.base_layer.bias
        return made if bias is None else made + bias.to(self.dtype)

    @torch.no_grad()
    def _lengths(self, name: str) -> Tensor:
        """|w + s b A| of each row w of W (outputs,): the root of |w|^2 + 2 s b (A w) + s^2 b (A A') b'.

        It counts as a constant (section 4.3 of the paper), so that no slope goes through.
        """
        layer = self.layer
        a, b, scale = layer.lora_A[name].weight, layer.lora_B[name].weight.float(), layer.scaling[name]
        with torch.autocast(a.device.type, enabled=False):
            across = (frozen_of(layer, self.dtype)() @ a.to(self.dtype).T).float()  # (outputs, R)
            a = a.float()
            within = b @ (a @ a.T)
        lengths: Tensor = (self.squares + (b * (2 * scale * across + scale**2 * within)).sum(1)).sqrt()
        return lengths


class _Stretched(torch.autograd.Function):
    """y (.., outputs) times factor (outputs,), which is float32: rounded once, and summed in float32."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(y, factor)
        out = torch.empty_like(y)
        for one, into in by_block(y, out):
            into.copy_(one.float() * factor)
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor]:
        y, factor = ctx.saved_tensors
        for_y, for_factor = torch.empty_like(y), torch.zeros_like(factor)
        for one, above, into in by_block(y, upstream[0], for_y):
            given = above.float()
            for_factor += torch.linalg.vecdot(given, one.float(), dim=0)
            into.copy_(given * factor)
        return for_y, for_factor
