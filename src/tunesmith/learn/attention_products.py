"""The way back through attention as plain matrix products in bfloat16, which run as fast as a processor can.

torch's kernel for processors takes longer on the way back (benchmarks/attention_dtype.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from tunesmith.learn.attention_parts import Part, batches_of
from tunesmith.learn.kept_memory import Workspace

AT_ONCE = 1 << 20  # shares that stand at a time: 2 MiB
LONGEST_BLOCK = 256  # queries of a causal block: of its last keys half are computed for nothing
LEAST_LENGTH = 100
"""Tokens of a document from which the kernel is slower (benchmarks/attention_dtype.py)."""
LEAST_PAIRS = 256**2
"""Queries times keys from which it is, where all queries see all keys."""

Slopes = tuple[Tensor, Tensor, Tensor]
"""Of query (n, H, D), key and value (n_k, H_kv, D), in float32."""


def pays(part: Part, dtype: torch.dtype) -> bool:
    """Whether the way back through a part is faster by products; in float32 the kernel is as fast as they are."""
    long = part.n_queries >= LEAST_LENGTH if part.is_causal else part.n_pairs >= LEAST_PAIRS
    return dtype == torch.bfloat16 and long


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
        _, n_heads, self.width = query.shape
        self.n_groups, self.dtype = key.shape[1], value.dtype
        self.heads_a_group = n_heads // self.n_groups
        self.scale = self.width**-0.5 if scale is None else scale
        self.query, self.given = (one.unflatten(1, (self.n_groups, -1)) for one in (query, given))
        self.key, self.value, self.out, self.sums = key, value, out, sums
        self.workspace = Workspace()

    # Worked out when they are first asked for: of short rows nothing goes back by products.

    @cached_property
    def _scaled_key(self) -> Tensor:
        return self.key * self.scale

    @cached_property
    def _off_scores(self) -> Tensor:
        return self._in_two(self.sums)

    @cached_property
    def _off_slopes(self) -> Tensor:
        return self._in_two(torch.linalg.vecdot(self.given.flatten(1, 2).float(), self.out))

    def documents(self, documents: tuple[range, ...], n_first: int) -> Slopes:
        """Of all tokens, from documents that are each causal for itself; `n_first` keys stand before those of a row.

        Zero at tokens of no document.
        """
        n = len(self.query)
        begun = torch.empty if sum(map(len, documents)) == n else torch.zeros
        of_query = begun(n, self.n_groups, self.heads_a_group, self.width)
        of_key, of_value = (begun(n, self.n_groups, self.width) for _ in range(2))
        for batch in batches_of(documents):
            keys = [range(n_first + one.start, n_first + one.stop) for one in batch]
            slopes = self._worked_out(batch, keys, is_causal=True)
            for whole, made in zip((of_query, of_key, of_value), slopes, strict=True):
                for place, own in zip(batch, made, strict=True):
                    whole[place.start : place.stop] = own[: len(place)]
        return _by_token(of_query, of_key, of_value)

    def part(self, part: Part) -> Slopes:
        """Of a part in which all queries see all keys."""
        of_query, of_key, of_value = self._worked_out([_range(part.asking)], [_range(part.told)], is_causal=False)
        return _by_token(of_query[0].float(), of_key[0], of_value[0])

    def _worked_out(self, asking: Sequence[range], told: Sequence[range], *, is_causal: bool) -> Slopes:
        """Of N documents, none longer than the first.

        Of query (N, n, H_kv, H / H_kv, D), key and value (N, n_k, H_kv, D).
        """
        asks = self._asks("asks", self.query, self._off_scores, asking)
        gives = self._asks("gives", self.given, self._off_slopes, asking)
        keys, values = self._tells("keys", self._scaled_key, told), self._tells("values", self.value, told)
        n_matrices, n, n_keys = *asks.shape[:2], keys.shape[1]
        of_query = self._take("of query", (n_matrices, n, self.heads_a_group, self.width))
        of_told: list[Tensor] = []
        for rows, seen in self._blocks(n_matrices, n, n_keys, is_causal):
            a, g = (one[:, rows].flatten(1, 2) for one in (asks, gives))
            k, v = (one[:, :seen] for one in (keys, values))
            shares = self._product("shares", a, k.mT)
            if is_causal:
                _hide_later(shares, self.heads_a_group)
            slopes = self._product("slopes", g, v.mT).mul_(shares.exp_())
            to_query = self._product("query", slopes, k[..., : self.width])
            of_query[:, rows] = to_query.unflatten(1, (-1, self.heads_a_group))
            to_key = self._product("key", slopes.mT, a[..., : self.width])
            to_value = self._product("value", shares.mT, g[..., : self.width])
            if not of_told:  # the first block sees all keys
                of_told = [to_key.float(), to_value.float()]
            else:
                of_told[0][:, :seen] += to_key
                of_told[1][:, :seen] += to_value
        made = of_query, of_told[0].mul_(self.scale), of_told[1]
        of_query, of_key, of_value = (one.unflatten(0, (-1, self.n_groups)).transpose(1, 2) for one in made)
        return of_query, of_key, of_value

    def _in_two(self, one: Tensor) -> Tensor:
        """(T, H) in float32 as two numbers of the type of the products, whose sum it is: (T, H_kv, H / H_kv, 2)."""
        made = one.new_empty(*one.shape, 2, dtype=self.dtype)
        made[..., 0] = one
        made[..., 1] = one - made[..., 0]
        return made.view(len(one), self.n_groups, self.heads_a_group, 2)

    def _asks(self, name: str, one: Tensor, less: Tensor, tokens: Sequence[range]) -> Tensor:
        """(T, H_kv, H / H_kv, D) by matrix (N * H_kv, n, H / H_kv, D + 2), with what is to go off their products."""
        n = len(tokens[0])
        made = self._take(name, (len(tokens), self.n_groups, n, self.heads_a_group, self.width + 2))
        _lay(made[..., : self.width], one, tokens)
        _lay(made[..., self.width :], less, tokens)
        return made.flatten(0, 1)

    def _tells(self, name: str, one: Tensor, tokens: Sequence[range]) -> Tensor:
        """(T_k, H_kv, D) as (N * H_kv, n_k, D + 2), whose last columns take off what the other side says."""
        made = self._take(name, (len(tokens), self.n_groups, len(tokens[0]), self.width + 2))
        _lay(made[..., : self.width], one, tokens)
        made[..., self.width :] = -1.0
        return made.flatten(0, 1)

    def _blocks(self, n_matrices: int, n: int, n_keys: int, is_causal: bool) -> Iterator[tuple[slice, int]]:
        """Queries that are worked on at once, the last first, and how many keys they see, from the first on."""
        size = max(1, AT_ONCE // (n_matrices * self.heads_a_group * n_keys))
        if is_causal:
            size = min(size, LONGEST_BLOCK)
        size = -(-n // -(-n // size))
        for begun in reversed(range(0, n, size)):
            done = min(begun + size, n)
            yield slice(begun, done), done if is_causal else n_keys

    def _product(self, name: str, one: Tensor, other: Tensor) -> Tensor:
        """Each matrix times the other, where the last of this name stood: that is still in the cache."""
        made = self._take(name, (len(one), one.shape[1], other.shape[2]))
        return torch.bmm(one, other, out=made)

    def _take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return self.workspace.take(name, shape, self.dtype, self.query.device)


def _range(tokens: slice) -> range:
    return range(tokens.start, tokens.stop)


def _by_token(of_query: Tensor, of_key: Tensor, of_value: Tensor) -> Slopes:
    """Those of the query with its heads side by side."""
    return of_query.flatten(1, 2), of_key, of_value


def _lay(made: Tensor, one: Tensor, tokens: Sequence[range]) -> None:
    """Tokens (T, H_kv, ..) into documents (N, H_kv, n, ..), each filled up with zeros."""
    by_group = one.transpose(0, 1)
    for place, own in zip(made, tokens, strict=True):
        n = len(own)
        if n < place.shape[1]:
            place[:, n:] = 0.0
            place = place[:, :n]
        place.copy_(by_group[:, own.start : own.stop])


def _hide_later(scores: Tensor, heads_a_group: int) -> None:
    """Of the last keys, as many as there are queries, each sees itself and those before; in place."""
    n = scores.shape[1] // heads_a_group
    scores[..., -n:].add_(_later(n, heads_a_group, scores.dtype))


@lru_cache(maxsize=64)
def _later(n: int, n_heads: int, dtype: torch.dtype) -> Tensor:
    """(n * n_heads, n): minus infinity where a key comes after the query."""
    return torch.full((n, n), -torch.inf, dtype=dtype).triu(1).repeat_interleave(n_heads, dim=0)
