"""Which tokens of a row ask which others: what both ways through attention go by."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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

    def asks(self, one: Tensor) -> Tensor:
        """The tokens asking, of (T, H, D), by document: (N, H, length, D)."""
        return _by_document(one[self.asking], self.n_documents)

    def tells(self, one: Tensor) -> Tensor:
        """The tokens told, of (T_k, H, D), by document: (N, H, length, D)."""
        return _by_document(one[self.told], self.n_documents)


def _by_document(one: Tensor, n_documents: int) -> Tensor:
    n_tokens, n_heads, width = one.shape
    n = n_documents or 1
    return one.view(n, n_tokens // n, n_heads, width).transpose(1, 2)
