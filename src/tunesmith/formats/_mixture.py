"""Rows of several places, each seen as often as its weight says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tunesmith import files
from tunesmith.text.example import Example


def weighted(examples: Sequence[Example], weight: float, seed: int) -> tuple[Example, ...]:
    """The examples as they are seen in an epoch, in their order: each as often as the whole part of the weight says.

    The part behind the point is the share of them that is seen once more. Which ones depends on the seed and on their
    own content, not on their order.
    """
    each = int(weight)
    n_more = round((weight - each) * len(examples))
    once_more = set(sorted(range(len(examples)), key=_ranks(examples, seed).__getitem__)[:n_more]) if n_more else set()
    times = (each + (at in once_more) for at in range(len(examples)))
    return tuple(one for one, count in zip(examples, times, strict=True) for _ in range(count))


def _ranks(examples: Iterable[Example], seed: int) -> list[tuple[int, str]]:
    """What the examples are drawn by: of rows that are equal, the first of each kind comes before any second."""
    seen: Counter[str] = Counter()
    ranks = []
    for one in examples:
        content = files.sha256_of(["mixture", seed, one.messages, one.tools, one.text])
        ranks.append((seen[content], content))
        seen[content] += 1
    return ranks
