"""Rows that begin alike: what they share is computed once and attended to by all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

LEAST_SAVED = 32  # tokens that sharing has to save in a family; fewer are eaten up by what it costs
BLOCK = 256  # rows that are divided into families at once


@dataclass(frozen=True)
class Family:
    """Rows, by index, shortest first, whose first `n_shared` tokens are the same. Each has a token of its own."""

    rows: tuple[int, ...]
    n_shared: int

    def n_tokens(self, lengths: Sequence[int]) -> int:
        """Tokens that are computed for it; `lengths` are those of all rows."""
        return self.n_shared + sum(lengths[row] - self.n_shared for row in self.rows)


@dataclass(frozen=True)
class Sharing:
    """Which rows may share. One of more than `longest` tokens does not: the attention's window would be too narrow."""

    longest: int | None = None

    def families(self, rows: Sequence[int], ids: Sequence[Sequence[int]]) -> list[Family]:
        """Rows divided so that the most tokens are saved; those that share nothing are a family too.

        `ids` are the tokens of all rows.
        """
        alone = [row for row in rows if self.longest is not None and len(ids[row]) > self.longest]
        order = sorted(set(rows) - set(alone), key=lambda row: (ids[row], row))
        made: list[Family] = []
        for first in range(0, len(order), BLOCK):
            block = order[first : first + BLOCK]
            for n_shared, part in _divided(block, ids):
                if n_shared:
                    made.append(Family(by_length(part, ids), n_shared))
                else:
                    alone += part
        return ([Family(by_length(alone, ids), 0)] if alone else []) + made

    def of_steps(self, steps: Sequence[Sequence[int]], ids: Sequence[Sequence[int]]) -> list[Family]:
        """The families of several steps, each of which names its rows by their index in `ids`."""
        return [family for step in steps for family in self.families(step, ids)]


def share_computed(families: Sequence[Family], lengths: Sequence[int]) -> float:
    """The share of the tokens of some families that is computed; `lengths` are those of all rows."""
    tokens = sum(lengths[row] for family in families for row in family.rows)
    return sum(family.n_tokens(lengths) for family in families) / max(tokens, 1)


def by_length(rows: Sequence[int], ids: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The shortest first: those of one length side by side."""
    return tuple(sorted(rows, key=lambda row: (len(ids[row]), row)))


def _divided(order: Sequence[int], ids: Sequence[Sequence[int]]) -> list[tuple[int, Sequence[int]]]:
    """Rows in the order of their tokens, cut where the most is saved; how much each part shares.

    The best cut of the first `till` rows is the best of the first `low`, and one part of those between.
    """
    common = [0, *(_n_common(ids[one], ids[other]) for one, other in pairwise(order))]  # with the row before
    best: list[tuple[int, int, int]] = [(0, 0, 0)]  # saved, where the last part begins, what it shares
    for till in range(1, len(order) + 1):
        shared = len(ids[order[till - 1]]) - 1
        found = (best[till - 1][0], till - 1, 0)
        for low in range(till - 2, -1, -1):
            shared = min(shared, common[low + 1], len(ids[order[low]]) - 1)
            saved = shared * (till - low - 1)
            if saved >= LEAST_SAVED and best[low][0] + saved > found[0]:
                found = (best[low][0] + saved, low, shared)
        best.append(found)
    parts, till = [], len(order)
    while till:
        _, low, shared = best[till]
        parts.append((shared, order[low:till]))
        till = low
    return parts[::-1]


def _n_common(one: Sequence[int], other: Sequence[int]) -> int:
    """Tokens that both begin with."""
    most = min(len(one), len(other))
    return next((at for at in range(most) if one[at] != other[at]), most)
