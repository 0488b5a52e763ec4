"""Attention whose keys stand in several places: a part for each, put together by their sums. On the processor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tunesmith.learn.attention_parts import Part, documents_of
from tunesmith.learn.attention_products import Products, Slopes, pays

_ahead = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_back = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
MANY_KEYS = 1024
"""Keys from which the kernel is a good deal faster in bfloat16 (benchmarks/attention_dtype.py).

Forward it is from 128 on, but what that rounds away is not worth a twentieth of a step.
"""


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
        by_type = ByType(query, key, value)
        out, sums = torch.empty_like(query, dtype=torch.float32), query.new_empty(query.shape[:2], dtype=torch.float32)
        covered = 0
        for part in parts:
            mean, total = seen(part, by_type(_computed_in(part, value.dtype)), scale)
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
        saved = query, key, value, upstream[0].contiguous(), out, sums, ctx.scale
        slopes = [_Slope(one) for one in (query, key, value)]
        for asking, told, made in _by_place(ctx.parts, Kernel(*saved), Products(*saved), value.dtype):
            for slope, own, place in zip(slopes, made, (asking, told, told), strict=True):
                slope.add(own, place)
        return (*(slope.whole() for slope in slopes), None, None)


def _by_place(
    parts: Sequence[Part], by_kernel: Kernel, by_products: Products, dtype: torch.dtype
) -> Iterator[tuple[slice, slice, Slopes]]:
    """The slopes of query, key and value, and the tokens asking and told that they belong to; documents come first."""
    own = [part for part in parts if part.is_causal and pays(part, dtype)]
    if own:
        n_first = own[0].told.start - own[0].asking.start
        whole = by_products.documents(documents_of(own), n_first)
        yield slice(0, len(whole[0])), slice(n_first, n_first + len(whole[1])), whole
    for part in parts:
        if part in own:
            continue
        made = by_products.part(part) if pays(part, dtype) else by_kernel(part, _computed_in(part, dtype))
        yield part.asking, part.told, made


class Kernel:
    """The slopes of query, key and value in the parts of one row of attention, by torch's kernel.

    What it gives of a part is what `Products` gives of it.
    """

    def __init__(
        self, query: Tensor, key: Tensor, value: Tensor, given: Tensor, out: Tensor, sums: Tensor, scale: float | None
    ) -> None:
        self.by_type, self.n_groups = ByType(query, key, value), key.shape[1]
        self.given, self.out, self.sums, self.scale = given, out, sums, scale

    def __call__(self, part: Part, dtype: torch.dtype) -> Slopes:
        """Of query (n, H, D), key and value (n_k, H_kv, D) of the part, computed in `dtype`."""
        q, k, v = self.by_type(dtype)
        slope, mean = (part.asks(one).to(dtype) for one in (self.given, self.out))
        total = part.asks(self.sums[..., None])[..., 0]
        asked = part.asks(q), part.tells(k), part.tells(v), mean, total
        of_query, *others = map(_flat, _back(slope, *asked, 0.0, part.is_causal, scale=self.scale))
        of_key, of_value = (one.unflatten(1, (self.n_groups, -1)).sum(2, dtype=torch.float32) for one in others)
        return of_query, of_key, of_value


class _Slope:
    """The slope of one tensor, put together from those of its parts in float32."""

    def __init__(self, one: Tensor) -> None:
        self.dtype, self.sum, self.begun = one.dtype, torch.empty_like(one, dtype=torch.float32), 0

    def add(self, own: Tensor, place: slice) -> None:
        """Parts come in the order of their tokens, and those that stand there already are added to."""
        if place.start < self.begun:
            self.sum[place] += own
            return
        if len(own) == len(self.sum):  # all of it at once
            self.sum, self.begun = own, place.stop
            return
        self.sum[self.begun : place.start] = 0.0
        self.sum[place] = own
        self.begun = place.stop

    def whole(self) -> Tensor:
        """All of it, in the type of the tensor."""
        self.sum[self.begun :] = 0.0
        return self.sum.to(self.dtype)


def seen(part: Part, asked: Sequence[Tensor], scale: float | None) -> tuple[Tensor, Tensor]:
    """The mean (n, H, D) and the logarithm of the sum (n, H) of a part, of query, key and value in one type."""
    query, key, value = asked
    mean, total = _ahead(part.asks(query), part.tells(key), part.tells(value), 0.0, part.is_causal, scale=scale)
    return _flat(mean), total.transpose(1, 2).flatten(0, 1)


class ByType:
    """Query, key and value in one type, a key for each head; made once for each type."""

    def __init__(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        self.parts, self.made = (query, key, value), dict[torch.dtype, tuple[Tensor, ...]]()

    def __call__(self, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """All three in `dtype`, each (T, H, D)."""
        if dtype not in self.made:
            n_heads = self.parts[0].shape[1]
            self.made[dtype] = tuple(_by_head(one, n_heads, dtype) for one in self.parts)
        return self.made[dtype]


def _computed_in(part: Part, dtype: torch.dtype) -> torch.dtype:
    """What the kernel computes a part in, where values are in `dtype`: where keys are few it is slower in bfloat16."""
    return dtype if part.n_keys >= MANY_KEYS else torch.float32


def _by_head(one: Tensor, n_heads: int, dtype: torch.dtype) -> Tensor:
    """(T, H_kv, D) to (T, H, D)."""
    n_tokens, n_groups, width = one.shape
    if n_groups == n_heads:
        return one.to(dtype)
    made = one.new_empty(n_tokens, n_groups, n_heads // n_groups, width, dtype=dtype)
    return made.copy_(one[:, :, None]).flatten(1, 2)


def _add(out: Tensor, sums: Tensor, mean: Tensor, total: Tensor) -> None:
    """Another part's mean and sum into what stands there; in place."""
    both = torch.logaddexp(sums, total)
    out.mul_((sums - both).exp_()[..., None]).addcmul_(mean, (total - both).exp_()[..., None])
    sums.copy_(both)


def _flat(one: Tensor) -> Tensor:
    """(N, H, length, D) to (N * length, H, D), as the kernel has laid it out."""
    return one.transpose(1, 2).flatten(0, 1)
