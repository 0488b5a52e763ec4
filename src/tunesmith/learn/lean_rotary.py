"""Rotary positions, written out: one pass there and one back, laid out as attention wants it.

Llama's own way makes ten passes over queries and keys, most of them in two types at once or across their layout.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

NAME = "apply_rotary_pos_emb"  # in each of transformers' files of models that turn their queries and keys
Turn = Callable[..., tuple[Tensor, Tensor]]


@contextmanager
def lean_rotary(model: nn.Module) -> Iterator[int]:
    """Queries and keys are turned this way within this block, where the model's own way gives the same.

    Gives in how many files of models it was put in the place of theirs.
    """
    known = {id(one): one for one in map(_file_of, model.modules()) if one is not None}.values()
    changed = [(file, getattr(file, NAME)) for file in known if _turns_halves(getattr(file, NAME))]
    for file, theirs in changed:
        setattr(file, NAME, _lean(theirs))
    try:
        yield len(changed)
    finally:
        for file, theirs in changed:
            setattr(file, NAME, theirs)


def _file_of(layer: nn.Module) -> ModuleType | None:
    file = sys.modules.get(type(layer).__module__)
    return file if callable(getattr(file, NAME, None)) else None


def _lean(theirs: Turn) -> Turn:
    def turn(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *others: Any, **named: Any) -> tuple[Tensor, Tensor]:
        if others or named or not _is_plain(query, cos):
            return theirs(query, key, cos, sin, *others, **named)
        return _Turned.apply(query, cos, sin), _Turned.apply(key, cos, sin)

    return turn


def _is_plain(query: Tensor, cos: Tensor) -> bool:
    """Whether all of each head is turned."""
    return query.dim() == 4 and cos.dim() == 3 and query.shape[-1] == cos.shape[-1]


def _turns_halves(theirs: Turn) -> bool:
    """Whether it is x cos + (-x2, x1) sin, with x1 and x2 the halves of each head: asked of the function itself."""
    query, key, cos, sin = (torch.linspace(-1, 1, 24 * n).sin().reshape(shape) for n, shape in _PROBES)
    try:
        theirs_, ours = theirs(query, key, cos, sin), _lean(theirs)(query, key, cos, sin)
    except (TypeError, ValueError, RuntimeError):
        return False
    return all(torch.allclose(found, wanted, atol=1e-6) for found, wanted in zip(ours, theirs_, strict=True))


_PROBES = ((2, (1, 2, 3, 8)), (1, (1, 1, 3, 8)), (1, (1, 3, 8)), (1, (1, 3, 8)))


class _Turned(torch.autograd.Function):
    """Heads (B, H, T, D) turned by the angles of their places, cos and sin (B, T, D). Su et al. 2021, RoFormer.

    What is made lies as (B, T, H, D) in memory, in the wider type of the two, and is computed in float32.
    """

    @staticmethod
    def forward(ctx: Any, heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.dtype = heads.dtype
        return _turned(heads, cos, sin, -1.0).to(torch.result_type(heads, cos))

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _turned(upstream[0], cos, sin.roll(sin.shape[-1] // 2, -1), 1.0).to(ctx.dtype), None, None


def _turned(heads: Tensor, cos: Tensor, sin: Tensor, sign: float) -> Tensor:
    """(x1 cos1 + sign x2 sin1, x2 cos2 - sign x1 sin2), float32; `sign` -1 turns, 1 turns back."""
    wide = heads.transpose(1, 2).float()  # (B, T, H, D)
    cos, sin = cos.float().unsqueeze(2), sin.float().unsqueeze(2)
    half = wide.shape[-1] // 2
    made = wide * cos
    made[..., :half].addcmul_(wide[..., half:], sin[..., :half], value=sign)
    made[..., half:].addcmul_(wide[..., :half], sin[..., half:], value=-sign)
    return made.transpose(1, 2)
