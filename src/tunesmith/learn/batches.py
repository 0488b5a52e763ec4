"""Which rows go into which step, and how many of them through the model at once."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tunesmith.learn.families import Family, Sharing, by_length
from tunesmith.text.example import Tokens


@dataclass(frozen=True)
class Step:
    """The rows whose gradients are added up before the weights move, by index, in the order they are taken."""

    number: int  # from 1
    epoch: float  # passes over the rows that are done after it
    rows: tuple[int, ...]
    ends_epoch: bool


def n_learnt(row: Tokens) -> int:
    """Tokens of a row that carry loss; the first has nothing before it and never does."""
    return sum(1 for weight in row.weights[1:] if weight > 0)


def weight_of(row: Tokens) -> float:
    """What a row counts in the loss."""
    return float(sum(row.weights[1:]))


def plan_steps(
    learnt: Sequence[int], *, epochs: float, rows_per_step: int | None, learnt_per_step: int | None, seed: int
) -> list[Step]:
    """All the steps of a run, from nothing but numbers, so that a resumed run finds the same.

    `learnt` is the learnt tokens of each row. A step has `rows_per_step` rows, or, where `learnt_per_step` is given, as
    many as reach that many learnt tokens. Each epoch has its own order, fixed by `seed`; a step never spans two epochs.
    """
    steps: list[Step] = []
    left = epochs
    epoch = 0
    while left > 1e-9:
        order = list(range(len(learnt)))
        random.Random(f"{seed}:{epoch}").shuffle(order)
        order = order[: max(1, round(len(order) * min(left, 1.0)))]
        groups = _groups(order, learnt, rows_per_step, learnt_per_step)
        seen = 0
        for group in groups:
            seen += len(group)
            steps.append(Step(len(steps) + 1, epoch + seen / len(learnt), tuple(group), ends_epoch=group is groups[-1]))
        left -= 1.0
        epoch += 1
    return steps


def _groups(
    order: Sequence[int], learnt: Sequence[int], rows_per_step: int | None, learnt_per_step: int | None
) -> list[list[int]]:
    if learnt_per_step is None:
        size = rows_per_step or 1
        return [list(order[first : first + size]) for first in range(0, len(order), size)]
    groups: list[list[int]] = [[]]
    reached = 0
    for row in order:
        if reached >= learnt_per_step:
            groups.append([])
            reached = 0
        groups[-1].append(row)
        reached += learnt[row]
    return groups


def portions(
    families: Sequence[Family], lengths: Mapping[int, int], *, most_rows: int | None, most_tokens: int
) -> list[list[int]]:
    """Rows in portions that go through the model at once, those of a family side by side.

    A portion has at most `most_tokens` tokens (or one row that is longer) and at most `most_rows` rows. What a family
    shares counts once in each portion that has some of it. `lengths` are those of the rows.
    """
    made: list[list[int]] = []
    tokens = 0
    for family in families:
        begun = False
        for row in family.rows:
            more = lengths[row] - (family.n_shared if begun else 0)
            full = made and (tokens + more > most_tokens or (most_rows is not None and len(made[-1]) >= most_rows))
            if not made or full:
                made.append([])
                tokens, more = 0, lengths[row]
            made[-1].append(row)
            tokens += more
            begun = True
    return made


def share(
    rows: Sequence[int],
    ids: Sequence[Sequence[int]],
    *,
    n: int,
    most_rows: int | None,
    most_tokens: int,
    beside: int = 0,
    sharing: Sharing | None = None,
) -> list[list[list[int]]]:
    """The portions of each of `n` processes, equally many for all: empty ones stand in where one has fewer rows.

    `ids` are the tokens of all rows, and `beside` what each of them attends to besides.
    """
    lengths = {row: len(ids[row]) + beside for row in rows}
    each = []
    for own in (rows[one::n] for one in range(n)):
        families = sharing.families(own, ids) if sharing else [Family(by_length(own, ids), 0)]
        each.append(portions(families, lengths, most_rows=most_rows, most_tokens=most_tokens))
    most = max(len(one) for one in each)
    return [one + [[] for _ in range(most - len(one))] for one in each]
