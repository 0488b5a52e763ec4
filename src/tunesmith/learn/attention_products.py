"""The way back through attention as plain matrix products in bfloat16, which run as fast as a processor can.

torch's kernel for processors takes longer on the way back where documents are long (benchmarks/attention_dtype.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from tunesmith.learn.attention_parts import Part
from tunesmith.learn.kept_memory import Workspace

AT_ONCE = 1 << 19  # shares that stand at a time: 1 MiB
LONGEST_BLOCK = 256  # queries of a causal block: of its last keys half are computed for nothing
LEAST_PAIRS = 256**2
"""Queries times keys of a document from which the kernel is slower (benchmarks/attention_dtype.py)."""


def pays(part: Part, dtype: torch.dtype) -> bool:
    """Whether the way back through a part is faster by products; in float32 the kernel is as fast as they are."""
    return dtype == torch.bfloat16 and part.n_queries * part.n_keys >= LEAST_PAIRS


class Products:
    """The slopes of query, key and value in the parts of one row of attention.

    With S the scores and L the logarithm of the sum of their exponentials, the shares are P = exp(S - L). With O what
    attention gave and dO its slope, that of the values is P' dO, that of the scores P x (dO V' - sum(O x dO)), and the
    rest follows by the product rule: Dao et al. 2022, FlashAttention, appendix B.

    Both differences are made inside a product, in float32, by two more columns, so that what is rounded to bfloat16
    is small wherever a share is large: a score itself may be in the tens, and so would lose the first decimal.
    """

    def __init__(
        self, query: Tensor, key: Tensor, value: Tensor, given: Tensor, out: Tensor, sums: Tensor, scale: float | None
    ) -> None:
        """`query`, `given` and `out` (T, H, D), `key` and `value` (T_k, H_kv, D), `sums` (T, H) in float32."""
        _, n_heads, width = query.shape
        self.n_groups, self.dtype = key.shape[1], value.dtype
        self.heads_a_group, self.width = n_heads // self.n_groups, width
        self.workspace = Workspace()
        self.scale = width**-0.5 if scale is None else scale
        self.asks = self._by_group(query * self.scale, sums)
        self.given = self._by_group(given, torch.linalg.vecdot(given.float(), out))
        self.keys, self.values = (self._less(one) for one in (key, value))

    def __call__(self, part: Part) -> tuple[Tensor, Tensor, Tensor]:
        """Of query (n, H, D), key and value (n_k, H_kv, D) of the part, in float32."""
        n_asking, n_told = part.asking.stop - part.asking.start, part.told.stop - part.told.start
        of_query = self.asks.new_empty(self.n_groups, n_asking * self.heads_a_group, self.width)
        of_key, of_value = (torch.zeros(self.n_groups, n_told, self.width) for _ in range(2))
        for group in range(self.n_groups):
            asks, given = (one[group, part.asking].flatten(0, 1) for one in (self.asks, self.given))
            keys, values = (one[group, part.told] for one in (self.keys, self.values))
            for asking, told in self._blocks(part):
                rows = slice(asking.start * self.heads_a_group, asking.stop * self.heads_a_group)
                shares = self._product("shares", asks[rows], keys[told]).exp_()
                if part.is_causal:
                    self._hide_later(shares, asking)
                slopes = self._product("slopes", given[rows], values[told]).mul_(shares)
                torch.mm(slopes, keys[told, : self.width], out=of_query[group, rows])
                of_key[group, told] += slopes.T @ asks[rows, : self.width]
                of_value[group, told] += shares.T @ given[rows, : self.width]
        by_token = of_query.view(self.n_groups, n_asking, self.heads_a_group, -1).transpose(0, 1)
        return by_token.float().mul_(self.scale).flatten(1, 2), of_key.transpose(0, 1), of_value.transpose(0, 1)

    def _by_group(self, one: Tensor, less: Tensor) -> Tensor:
        """(T, H, D) by group (H_kv, T, H / H_kv, D + 2), with what is to go off their products, in two parts."""
        made = one.new_empty(self.n_groups, len(one), self.heads_a_group, self.width + 2, dtype=self.dtype)
        by_group, less = (each.unflatten(1, (self.n_groups, -1)).transpose(0, 1) for each in (one, less))
        made[..., : self.width] = by_group
        made[..., self.width] = less
        made[..., self.width + 1] = less - made[..., self.width]  # what the first part has lost of it
        return made

    def _less(self, one: Tensor) -> Tensor:
        """(T_k, H_kv, D) as (H_kv, T_k, D + 2), whose last columns take off what the other side says."""
        made = one.new_full((self.n_groups, len(one), self.width + 2), -1.0, dtype=self.dtype)
        made[..., : self.width] = one.transpose(0, 1)
        return made

    def _blocks(self, part: Part) -> Iterator[tuple[slice, slice]]:
        """Queries that are worked on at once, and the keys that they see; both from the beginning of the part."""
        size = max(1, AT_ONCE // (self.heads_a_group * part.n_keys))
        if part.is_causal:
            size = min(size, LONGEST_BLOCK)
        for document in range(max(part.n_documents, 1)):
            first, told = document * part.n_queries, document * part.n_keys
            for begun in range(0, part.n_queries, size):
                done = min(begun + size, part.n_queries)
                seen = done if part.is_causal else part.n_keys
                yield slice(first + begun, first + done), slice(told, told + seen)

    def _product(self, name: str, one: Tensor, other: Tensor) -> Tensor:
        """The one (n, D) times the other' (m, D), where the last one of this name stood: that is still in the cache."""
        out = self.workspace.take(name, (len(one), len(other)), self.dtype, one.device)
        return torch.mm(one, other.T, out=out)

    def _hide_later(self, shares: Tensor, asking: slice) -> None:
        n = asking.stop - asking.start
        among_themselves = shares.view(n, self.heads_a_group, -1)[..., -n:]
        among_themselves.masked_fill_(_later(n), 0.0)


@lru_cache(maxsize=64)
def _later(n: int) -> Tensor:
    """(n, 1, n): whether a key comes after the query."""
    return torch.ones(n, n, dtype=torch.bool).triu(1)[:, None]
