"""Attention whose keys stand in several places: a part for each, put together by their sums. On the processor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_ahead = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_back = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
MANY_KEYS = 1024
"""Keys from which the kernel is a good deal faster in bfloat16 (benchmarks/attention_dtype.py).

Forward it is from 128 on, but what that rounds away is not worth a twentieth of a step.
"""


@dataclass(frozen=True)
class Part:
    """Queries of some tokens against keys of the same or of others.

    `asking` and `told` are ranges of tokens. `n_documents` of one length that lie side by side are causal, each for
    itself; 0 means that every token asking sees all that are told.
    """

    asking: slice
    told: slice
    n_documents: int = 0

    @property
    def n_keys(self) -> int:
        """Of a document."""
        n_told: int = self.told.stop - self.told.start
        return n_told // max(self.n_documents, 1)

    def asks(self, one: Tensor) -> Tensor:
        """The tokens asking, of (T, H, D), by document: (N, H, length, D)."""
        return _by_document(one[self.asking], self.n_documents)

    def tells(self, one: Tensor) -> Tensor:
        """The tokens told, of (T_k, H, D), by document: (N, H, length, D)."""
        return _by_document(one[self.told], self.n_documents)


def merged_attention(query: Tensor, key: Tensor, value: Tensor, parts: Sequence[Part], scale: float | None) -> Tensor:
    """What each token sees over all parts that it stands in. Exact: a softmax over the keys of all of them.

    `query` (T, H, D), `key` and `value` (T_k, H_kv, D), each key for H / H_kv heads. The first parts cover each of the
    T tokens once, in their order, and others add to them. Sums are float32, and so are products unless `value` is of
    another type and the keys are many; gives (T, H, D) in the type of `value`.

    Each part gives its own mean of the values and the logarithm of its sum of exponentials (m and l). Together they are
    the sum of m exp(l - L), with L the logarithm of the sum of the exp(l); and going backward, a part is given the
    mean and the L of the whole in place of its own: Milakov and Gimelshein 2018, Online normalizer calculation for
    softmax.
    """
    return _Merged.apply(query, key, value, parts, scale)  # type: ignore[no-any-return]


class _Merged(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, parts: Sequence[Part], scale: float | None
    ) -> Tensor:
        by_type = _ByType(query, key, value)
        out, sums = torch.empty_like(query, dtype=torch.float32), query.new_empty(query.shape[:2], dtype=torch.float32)
        covered = 0
        for part in parts:
            q, k, v = by_type(_computed_in(part, value))
            mean, total = _ahead(part.asks(q), part.tells(k), part.tells(v), 0.0, part.n_documents > 0, scale=scale)
            mean, total = _flat(mean), total.transpose(1, 2).flatten(0, 1)
            if part.asking.start >= covered:
                out[part.asking], sums[part.asking] = mean, total
                covered = part.asking.stop
            else:
                _add(out[part.asking], sums[part.asking], mean, total)
        ctx.save_for_backward(query, key, value, out, sums)
        ctx.parts, ctx.scale = parts, scale
        return out.to(value.dtype)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, sums = ctx.saved_tensors
        by_type = _ByType(query, key, value)
        given = upstream[0].contiguous()
        asked = query, key, value
        slopes = tuple(torch.empty(len(one), *query.shape[1:], device=one.device) for one in asked)
        begun = [0, 0, 0]
        for part in ctx.parts:
            dtype = _computed_in(part, value)
            q, k, v = by_type(dtype)
            slope, mean = (part.asks(one).to(dtype) for one in (given, out))
            total, causal = part.asks(sums[..., None])[..., 0], part.n_documents > 0
            made = _back(slope, part.asks(q), part.tells(k), part.tells(v), mean, total, 0.0, causal, scale=ctx.scale)
            for at, (own, place) in enumerate(zip(made, (part.asking, part.told, part.told), strict=True)):
                if place.start >= begun[at]:
                    slopes[at][begun[at] : place.start] = 0.0
                    slopes[at][place] = _flat(own)
                    begun[at] = place.stop
                else:
                    slopes[at][place] += _flat(own)
        return (*(_narrowed(own, one) for own, one in zip(slopes, asked, strict=True)), None, None)


class _ByType:
    """Query, key and value in one type, a key for each head; made once for each type."""

    def __init__(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        self.parts, self.made = (query, key, value), dict[torch.dtype, tuple[Tensor, ...]]()

    def __call__(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        if dtype not in self.made:
            n_heads = self.parts[0].shape[1]
            self.made[dtype] = tuple(_by_head(one, n_heads, dtype) for one in self.parts)
        return self.made[dtype]


def _computed_in(part: Part, value: Tensor) -> torch.dtype:
    """What the kernel computes a part in: where keys are few it is slower in bfloat16."""
    return value.dtype if part.n_keys >= MANY_KEYS else torch.float32


def _by_head(one: Tensor, n_heads: int, dtype: torch.dtype) -> Tensor:
    """(T, H_kv, D) to (T, H, D)."""
    n_tokens, n_groups, width = one.shape
    if n_groups == n_heads:
        return one.to(dtype)
    made = one.new_empty(n_tokens, n_groups, n_heads // n_groups, width, dtype=dtype)
    return made.copy_(one[:, :, None]).flatten(1, 2)


def _narrowed(slope: Tensor, one: Tensor) -> Tensor:
    """The gradient by head as that of `one`: summed over the heads that share it, in its type."""
    if slope.shape != one.shape:
        slope = slope.unflatten(1, (one.shape[1], -1)).sum(2)
    return slope.to(one.dtype)


def _add(out: Tensor, sums: Tensor, mean: Tensor, total: Tensor) -> None:
    """Another part's mean and sum into what stands there; in place."""
    both = torch.logaddexp(sums, total)
    out.mul_((sums - both).exp_()[..., None]).addcmul_(mean, (total - both).exp_()[..., None])
    sums.copy_(both)


def _by_document(one: Tensor, n_documents: int) -> Tensor:
    n_tokens, n_heads, width = one.shape
    n = n_documents or 1
    return one.view(n, n_tokens // n, n_heads, width).transpose(1, 2)


def _flat(one: Tensor) -> Tensor:
    """(N, H, length, D) to (N * length, H, D), as the kernel has laid it out."""
    return one.transpose(1, 2).flatten(0, 1)
