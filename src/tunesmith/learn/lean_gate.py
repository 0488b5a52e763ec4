"""The middle of a gated MLP, silu(gate) x up: rounded once, with nothing but gate and up kept for the way back.

Shazeer 2020, GLU Variants Improve Transformer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from tunesmith.learn.by_block import by_block

MLPS = frozenset({"LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP"})


def is_gated(layer: nn.Module) -> bool:
    """Whether it is down(silu(gate(x)) x up(x)), as Llama and its kin have it."""
    if type(layer).__name__ not in MLPS:
        return False
    probe = torch.linspace(-4, 4, 9)
    act: Any = getattr(layer, "act_fn", None)
    return callable(act) and torch.allclose(act(probe), silu(probe))


def gated(layer: Any, x: Tensor) -> Tensor:
    """What the MLP `layer` makes of `x`."""
    made: Tensor = layer.down_proj(_Gated.apply(layer.gate_proj(x), layer.up_proj(x)))
    return made


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        out = torch.empty_like(gate)
        for one, other, into in by_block(gate, up, out):
            into.copy_(silu(one.float()).mul_(other.float()))
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        for_gate, for_up = torch.empty_like(gate), torch.empty_like(up)
        for one, other, above, into_gate, into_up in by_block(gate, up, upstream[0], for_gate, for_up):
            wide, given = one.float(), above.float()
            into_up.copy_(silu(wide).mul_(given))
            into_gate.copy_(torch.ops.aten.silu_backward(given * other.float(), wide))
        return for_gate, for_up
