"""Which tokens of a row ask which others: what both ways through attention go by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from torch import Tensor

from tunesmith.learn.families import Family

AT_ONCE = 400
"""Tokens of a batch of documents: what is worked out of so many stays in the processor's cache."""
FILLED_UP = 1.2
"""How many times its pairs of query and key may be worked out."""


@dataclass(frozen=True)
class Laid:
    """Documents side by side in a row: `n_shared` tokens that all of them begin with, then the rest of each."""

    lengths: tuple[int, ...]  # without what is shared
    n_shared: int = 0

    @classmethod
    def of(cls, family: Family, lengths: Sequence[int]) -> Laid:
        """The rows of a family; `lengths` are those of all rows, by index."""
        return cls(tuple(lengths[row] - family.n_shared for row in family.rows), family.n_shared)

    @property
    def n_tokens(self) -> int:
        """All that they take up in the row."""
        return self.n_shared + sum(self.lengths)


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
    def is_causal(self) -> bool:
        """Whether a token sees none behind itself."""
        return self.n_documents > 0

    @property
    def n_queries(self) -> int:
        """Of a document."""
        n_asking: int = self.asking.stop - self.asking.start
        return n_asking // max(self.n_documents, 1)

    @property
    def n_keys(self) -> int:
        """Of a document."""
        n_told: int = self.told.stop - self.told.start
        return n_told // max(self.n_documents, 1)

    @property
    def n_pairs(self) -> int:
        """Queries with a key that they see, of all documents: what the part costs."""
        pairs = self.n_queries * (self.n_queries + 1) // 2 if self.is_causal else self.n_queries * self.n_keys
        return pairs * max(self.n_documents, 1)

    def asks(self, one: Tensor) -> Tensor:
        """The tokens asking, of (T, H, D), by document: (N, H, length, D)."""
        return _by_document(one[self.asking], self.n_documents)

    def tells(self, one: Tensor) -> Tensor:
        """The tokens told, of (T_k, H, D), by document: (N, H, length, D)."""
        return _by_document(one[self.told], self.n_documents)


@lru_cache(maxsize=8)  # every layer asks for the same
def parts_of(laid: tuple[Laid, ...], n_first: int) -> tuple[Part, ...]:
    """Documents see themselves, then what they share, then the `n_first` keys that stand before all others."""
    own: list[Part] = []
    seen_by_more: list[Part] = []
    at = 0
    for one in laid:
        shared = ((one.n_shared, 1),) if one.n_shared else ()
        if one.n_shared:
            asking, told = slice(at + one.n_shared, at + one.n_tokens), slice(n_first + at, n_first + at + one.n_shared)
            seen_by_more.append(Part(asking, told))
        for length, count in (*shared, *runs(one.lengths)):
            till = at + length * count
            own.append(Part(slice(at, till), slice(n_first + at, n_first + till), count))
            at = till
    before = (Part(slice(0, at), slice(0, n_first)),) if n_first else ()
    return (*own, *seen_by_more, *before)


def documents_of(parts: Sequence[Part]) -> tuple[range, ...]:
    """The tokens asking of each document that is causal for itself."""
    return tuple(
        range(first, first + part.n_queries)
        for part in parts
        if part.is_causal
        for first in range(part.asking.start, part.asking.stop, part.n_queries)
    )


@lru_cache(maxsize=8)
def batches_of(documents: tuple[range, ...]) -> tuple[tuple[range, ...], ...]:
    """Documents of about one length together, the longest of them first.

    Filled up to that length, no batch has many more tokens than are good at once, nor many more pairs of query and key
    than its documents have.
    """
    batches: list[tuple[range, ...]] = []
    for one in sorted(documents, key=len, reverse=True):
        if batches and _fits((*batches[-1], one)):
            batches[-1] += (one,)
        else:
            batches.append((one,))
    return tuple(batches)


def _fits(documents: tuple[range, ...]) -> bool:
    longest, n = len(documents[0]), len(documents)
    return longest * n <= AT_ONCE and longest**2 * n <= FILLED_UP * sum(len(one) ** 2 for one in documents)


def runs(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Lengths that stand side by side, and how often."""
    return [(length, len(list(same))) for length, same in groupby(lengths)]


def _by_document(one: Tensor, n_documents: int) -> Tensor:
    n_tokens, n_heads, width = one.shape
    n = n_documents or 1
    return one.view(n, n_tokens // n, n_heads, width).transpose(1, 2)
