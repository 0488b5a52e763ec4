"""The output head and its loss, a chunk of positions at a time: all logits at once would take the most memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tunesmith.learn.kept_memory import Workspace
from tunesmith.weights import estimate
from tunesmith.weights.token_rows import TokenRows

HEAD_ROWS_AT_ONCE = 4096
"""Tokens whose rows of the head's gradient are made at a time: what they stand in is still in the processor's cache."""


def summed_cross_entropy(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    weights: Tensor,
    cap: float | None,
    dtype: torch.dtype,
    rows: TokenRows | None = None,
    workspace: Workspace | None = None,
) -> Tensor:
    """Sum of weight x cross-entropy of `hidden` (K, D) against `targets` (K,) under the output head (V, D).

    Logits exist for a chunk of positions at a time, and their gradient is made in the forward pass, where they are at
    hand; the slopes of several chunks go through the head at once, so that it is read less often. Sums are in float32,
    whatever the type of the products. `cap` is the soft cap of the logits, if any. Tokens of `rows` have those instead
    of the head's own. A call with the `workspace` of an earlier one works in its memory.
    """
    if not len(targets):
        return hidden.sum() * 0.0
    ids, own = (None, None) if rows is None else (rows.ids, rows.weight)
    moved, how = (hidden, head, own), (cap, dtype, torch.is_grad_enabled(), workspace or Workspace())
    return _ChunkedLoss.apply(*moved, ids, targets, weights, *how)  # type: ignore[no-any-return]


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        own: Tensor | None,
        ids: Tensor | None,
        targets: Tensor,
        weights: Tensor,
        cap: float | None,
        dtype: torch.dtype,
        wants_gradient: bool,
        workspace: Workspace,
    ) -> Tensor:
        rows = None if ids is None or own is None else _OwnRows(ids, own.to(dtype))
        asked = _Head(_in_type(head, dtype, workspace), rows, cap, workspace)
        h = hidden.to(dtype)
        made = _Gradients(asked, h, [wants_gradient and needed for needed in ctx.needs_input_grad[:3]])
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for part, slopes in asked.chunks(len(h)):
            total += asked.losses(h[part], targets[part], slopes) @ weights[part]
            made.add(part, h[part], slopes, weights[part, None])
        # Not among the saved tensors: those are held until the graph goes, and what someone else holds is not added to
        # in place by autograd, but copied. A gradient of the head is large.
        ctx.made = (made.hidden, hidden.dtype), (made.head, head.dtype), (made.own, torch.float32)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        made, ctx.made = ctx.made, ()
        grads = [None if grad is None else grad.mul_(upstream[0]).to(dtype) for grad, dtype in made]
        return (*grads, *[None] * 7)


class _OwnRows(NamedTuple):
    """What R tokens have instead of the head's own rows."""

    ids: Tensor  # (R,)
    weight: Tensor  # (R, D)


@dataclass(frozen=True)
class _Head:
    """`weight` (V, D) in the type of the products."""

    weight: Tensor
    rows: _OwnRows | None
    cap: float | None
    workspace: Workspace

    def chunks(self, n: int) -> Iterator[tuple[slice, Tensor]]:
        """Parts of n positions, and what their slopes (of the part, V) come to stand in: for all of them the same."""
        size = min(n, estimate.rows_at_once(estimate.SLOPES_BYTES, len(self.weight), self.weight.dtype.itemsize))
        slopes = self._room("slopes", size, self.weight.dtype)
        for first in range(0, n, size):
            part = slice(first, min(first + size, n))
            yield part, slopes[: part.stop - first]

    def losses(self, h: Tensor, targets: Tensor, slopes: Tensor) -> Tensor:
        """Those (n,) of hidden states (n, D); how each changes with its logits goes into `slopes` (n, V)."""
        size = min(len(h), estimate.rows_at_once(estimate.CHUNK_BYTES, len(self.weight), torch.float32.itemsize))
        wide = self._room("wide", size, torch.float32)
        losses = []
        for first in range(0, len(h), size):
            part = slice(first, first + size)
            logits = torch.mm(h[part], self.weight.T, out=slopes[part])
            if self.rows is not None:
                logits[:, self.rows.ids] = h[part] @ self.rows.weight.T
            loss, slope = _cross_entropy(logits, targets[part], self.cap, wide[: len(logits)])
            losses.append(loss)
            logits.copy_(slope)
        return torch.cat(losses)

    def _room(self, name: str, n: int, dtype: torch.dtype) -> Tensor:
        return self.workspace.take(name, (n, len(self.weight)), dtype, self.weight.device)


class _Gradients:
    """Of the sum of the losses: those by hidden states (K, D), head (V, D) and own rows (R, D) that are wanted."""

    def __init__(self, asked: _Head, h: Tensor, wants: Sequence[bool]) -> None:
        self.asked, rows = asked, asked.rows
        self.hidden = torch.empty_like(h) if wants[0] else None
        self.head = torch.empty_like(asked.weight, dtype=torch.float32) if wants[1] else None
        self.own = torch.zeros_like(rows.weight, dtype=torch.float32) if wants[2] and rows is not None else None

    def add(self, part: slice, h: Tensor, slopes: Tensor, weights: Tensor) -> None:
        """A chunk: its states (n, D), its slopes (n, V), which are changed, and what each counts (n, 1)."""
        rows, of_own = self.asked.rows, None
        if rows is not None:
            of_own = slopes[:, rows.ids]
            slopes[:, rows.ids] = 0.0  # the head's own rows of these tokens have no part in it
        if self.hidden is not None:
            into = torch.mm(slopes, self.asked.weight, out=self.hidden[part])
            if rows is not None and of_own is not None:
                into.addmm_(of_own, rows.weight)
            into.mul_(weights)
        if self.head is not None:
            self._add_to_head(slopes, (h * weights).to(h.dtype), anew=part.start == 0)
        if self.own is not None and of_own is not None:
            self.own += of_own.T @ (h * weights).to(h.dtype)

    def _add_to_head(self, slopes: Tensor, h: Tensor, *, anew: bool) -> None:
        """`anew`: nothing is there yet."""
        assert self.head is not None
        for first in range(0, len(self.head), HEAD_ROWS_AT_ONCE):
            some = slice(first, first + HEAD_ROWS_AT_ONCE)
            into = self.head[some]
            room = self.asked.workspace.take("rows of the head", tuple(into.shape), h.dtype, h.device)
            made = torch.mm(slopes[:, some].T, h, out=room)
            if anew:
                into.copy_(made)
            else:
                into += made


def _in_type(head: Tensor, dtype: torch.dtype, workspace: Workspace) -> Tensor:
    if head.dtype == dtype:
        return head
    return workspace.take("head", tuple(head.shape), dtype, head.device).copy_(head)


def _cross_entropy(logits: Tensor, targets: Tensor, cap: float | None, room: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (n,) of logits (n, V), and their slopes; `room` (n, V), in float32, is where those come to stand."""
    at = targets[:, None]
    z = room.copy_(logits)
    bent = z.div_(cap).tanh_().clone() if cap else None
    torch.softmax(z.mul_(cap) if cap else z, -1, out=z)
    told = z.gather(1, at)[:, 0]
    losses = -told.log()
    unlikely = told < 1e-30  # near the smallest number there is, or beyond
    if unlikely.any():
        far = logits[unlikely].float()
        far = torch.tanh(far / cap) * cap if cap else far
        losses[unlikely] = nn.functional.cross_entropy(far, targets[unlikely], reduction="none")
    z.scatter_add_(1, at, torch.full_like(z[:, :1], -1.0))
    if bent is not None:
        z.mul_(bent.square_().neg_().add_(1.0))
    return losses, z
