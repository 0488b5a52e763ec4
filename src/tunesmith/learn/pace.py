"""How fast a run goes: real steps of a few layers, measured, and what they say of all layers and of the whole run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from tunesmith.learn import resume
from tunesmith.learn.batches import Step, n_learnt
from tunesmith.learn.families import Sharing
from tunesmith.learn.loop import Course, course_steps, held_out_loss, take_step, under_way
from tunesmith.learn.settings import Settings
from tunesmith.text.example import Tokens

STEPS = 4  # of each slice; of so many the first is not measured: it finds nothing ready
ENOUGH_SECONDS = 4.0  # in a slice, after which no further step is begun
FEW_BELOW, FEW_ABOVE = (1, 3), (2, 4)
"""Layers of the slices: of those that go forward only, and of those above. Two of each tell a layer from the rest."""


@dataclass(frozen=True)
class Seen:
    """Seconds that one slice took: `below` layers that go forward only, `above` layers over them."""

    below: int
    above: int
    first: tuple[float, ...]
    """Of steps whose rows come for the first time."""
    later: tuple[float, ...]
    """Of the same steps again: where the layers below are kept, these read what they gave."""
    moving: float
    """Of a step, that which moves the weights: it does not grow with the rows."""
    held_out: float
    """Of the loss of the held-out rows; 0 without any."""
    held_out_later: float
    checkpoint: float
    """Of writing one."""


@dataclass(frozen=True)
class Pace:
    """Seconds that the whole model takes, told from slices; the fields of `Seen`, and what they were measured on."""

    first: float
    later: float
    moving: float
    held_out: float
    held_out_later: float
    checkpoint: float
    tokens: float
    """Tokens that a measured step computes, what its rows share counted once."""
    held_out_tokens: int
    low: float
    """The quickest measured step, as a share of the median one."""
    high: float
    steps: int
    layers: tuple[int, ...]
    busy: bool = False
    """Whether other work stood beside it."""

    def a_step(self, tokens: float, *, later: bool = False) -> float:
        """Seconds of a step that computes so many tokens."""
        whole = self.later if later else self.first
        return self.moving + max(0.0, whole - self.moving) * tokens / max(self.tokens, 1.0)


@dataclass(frozen=True)
class Forecast:
    """Seconds of the parts of a run."""

    steps: float
    held_out: float
    checkpoints: float
    n_checkpoints: int

    @property
    def whole(self) -> float:
        """Of all parts."""
        return self.steps + self.held_out + self.checkpoints


def forecast(pace: Pace, settings: Settings, *, computed: float, held_out_tokens: int) -> Forecast:
    """Seconds of a whole run, from the pace of this machine.

    `computed` is the tokens that all its steps compute. The held-out loss is taken before the first step and after
    each epoch; a checkpoint is written after each epoch, and between them every `settings.checkpoint_minutes`.
    """
    a_step = computed / settings.steps
    n_epochs = math.ceil(settings.epochs)
    n_first = min(settings.steps, math.ceil(settings.steps / max(1.0, settings.epochs)))
    steps = n_first * pace.a_step(a_step) + (settings.steps - n_first) * pace.a_step(a_step, later=True)
    share = held_out_tokens / pace.held_out_tokens if pace.held_out_tokens else 0.0
    held_out = share * (pace.held_out + n_epochs * pace.held_out_later)
    n_checkpoints = n_epochs + int((steps + held_out) / (60 * settings.checkpoint_minutes))
    return Forecast(steps, held_out, n_checkpoints * pace.checkpoint, n_checkpoints)


def slices(n_layers: int, lowest: int, most: int = 0) -> list[tuple[int, ...]]:
    """The layers of each slice, by number: enough of them to tell what a layer below `lowest` and one above takes.

    They stand apart evenly, the lowest that a gradient reaches among them: so they are of all kinds that there are.
    Where the larger slices may have `most` layers of a kind, they do: the fewer are guessed, the less does it matter
    that a slice was slow by chance.
    """
    above = _counts(n_layers - lowest, (FEW_ABOVE[0], max(FEW_ABOVE[1], most)))
    below = _counts(lowest, (FEW_BELOW[0], max(FEW_BELOW[1], most)))
    pairs = [(below[0], above[0]), *((below[0], n) for n in above[1:]), *((n, above[0]) for n in below[1:])]
    return [(*_apart(0, lowest, down), *_apart(lowest, n_layers - lowest, up)) for down, up in pairs]


def _counts(n: int, few: tuple[int, int]) -> tuple[int, ...]:
    """Two different numbers of layers, where there are two."""
    large = min(n, few[1])
    return (large,) if large < 2 else (min(few[0], large - 1), large)


def _apart(first: int, n: int, count: int) -> tuple[int, ...]:
    return tuple(first + at * n // count for at in range(count))


def extrapolated(seen: Mapping[tuple[int, int], float], below: int, above: int) -> float:
    """What so many layers take, from what slices of (below, above) took: a sum of the rest and so much a layer.

    A layer that seems to take less than nothing, beside other work, is taken to take nothing.
    """
    (down, up), base = next(iter(seen.items()))
    more = base
    for (a, b), value in seen.items():
        if a == down and b != up:
            # From the larger slice on: what it took is known, and less has to be guessed.
            more = value + (above - b) * max(0.0, (value - base) / (b - up))
    for (a, b), value in seen.items():
        if b == up and a != down:
            more += (below - down) * max(0.0, (value - base) / (a - down))
    return more


def told(seen: Sequence[Seen], below: int, above: int, *, tokens: float, held_out_tokens: int, busy: bool) -> Pace:
    """The pace of a model of `below` layers that go forward only and `above` others, from its slices."""

    def whole(value: Callable[[Seen], float]) -> float:
        return extrapolated({(one.below, one.above): value(one) for one in seen}, below, above)

    largest = max(seen, key=lambda one: one.above)
    middle = median(largest.first)
    return Pace(
        first=whole(lambda one: median(one.first)),
        later=whole(lambda one: median(one.later)),
        moving=whole(lambda one: one.moving),
        held_out=whole(lambda one: one.held_out),
        held_out_later=whole(lambda one: one.held_out_later),
        checkpoint=whole(lambda one: one.checkpoint),
        tokens=tokens,
        held_out_tokens=held_out_tokens,
        low=min(largest.first) / middle,
        high=max(largest.first) / middle,
        steps=len(largest.first),
        layers=tuple(one.below + one.above for one in seen),
        busy=busy,
    )


def typical(rows: Sequence[Tokens], settings: Settings, most_tokens: int) -> list[list[Tokens]]:
    """The rows of steps of the usual size, cut to the first rows that have `most_tokens` together."""
    steps = course_steps(settings, [n_learnt(row) for row in rows])
    size = [sum(len(rows[row].ids) for row in step.rows) for step in steps]
    mean = sum(size) / len(size)
    near = sorted(range(len(steps)), key=lambda at: abs(size[at] - mean))[:STEPS]
    return [_cut([rows[row] for row in steps[at].rows], most_tokens) for at in near]


def _cut(rows: Sequence[Tokens], most_tokens: int) -> list[Tokens]:
    """The first rows, as many as have room, one at least."""
    kept: list[Tokens] = []
    n = 0
    for row in rows:
        n += len(row.ids)
        if kept and n > most_tokens:
            break
        kept.append(row)
    return kept


def computed(rows: Sequence[Tokens], window: int | None) -> int:
    """Tokens that a step of these rows computes, what they begin with alike counted once."""
    ids = [row.ids for row in rows]
    lengths = [len(one) for one in ids]
    return sum(family.n_tokens(lengths) for family in Sharing(window).families(range(len(ids)), ids))


def see(
    model: nn.Module,
    groups: Sequence[Sequence[Tokens]],
    held_out: Sequence[Tokens],
    settings: Settings,
    *,
    keeper: resume.Keeper,
    rates: Mapping[str, float],
    folder: Path,
    layers: tuple[int, int],
) -> Seen:
    """Seconds that real steps of a slice take; `groups` are the rows of each, `layers` its (below, above)."""
    rows = [row for group in groups for row in group]
    with under_way(model, rows, held_out, settings, keeper=keeper, run=folder, rates=rates) as course:
        moving = _moving(course)
        warm, *measured = _numbered(groups) if len(groups) == STEPS else [(0,), *_numbered(groups)]
        take_step(course, Step(1, 0.0, warm, False))  # the first sets up what all others find
        moving.clear()
        first = _steps(course, measured)
        later = _steps(course, measured) if settings.keeps_below else first
        held = _seconds(settings, lambda: held_out_loss(course)) if held_out else 0.0
        again = _seconds(settings, lambda: held_out_loss(course)) if held_out and settings.keeps_below else held
        state = resume.State(1, course.fingerprint, 0.0)
        written = _seconds(settings, lambda: resume.write(folder, state, model, course.optimizer, keeper))
    return Seen(*layers, first, later, median(moving), held, again, written)


def _numbered(groups: Sequence[Sequence[Tokens]]) -> list[tuple[int, ...]]:
    """The rows of each group by number, among those of all groups."""
    ends = list(accumulate(len(group) for group in groups))
    return [tuple(range(end - len(group), end)) for group, end in zip(groups, ends, strict=True)]


def _steps(course: Course, groups: Sequence[tuple[int, ...]]) -> tuple[float, ...]:
    """Seconds of a step for each group, as many as there is time for."""
    took: list[float] = []
    for number, rows in enumerate(groups, 2):
        step = Step(number, 0.0, rows, False)
        if sum(took) < ENOUGH_SECONDS:
            took.append(_seconds(course.settings, lambda step=step: take_step(course, step)))  # type: ignore[misc]
    return tuple(took)


def _moving(course: Course) -> list[float]:
    """Fills with the seconds that each move of the weights takes."""
    took: list[float] = []
    began = [0.0]
    bare: Any = getattr(course.optimizer, "optimizer", course.optimizer)

    def before(*_: Any) -> None:
        began[0] = _now(course.settings)

    def after(*_: Any) -> None:
        took.append(_now(course.settings) - began[0])

    bare.register_step_pre_hook(before)
    bare.register_step_post_hook(after)
    return took


def _seconds(settings: Settings, act: Callable[[], Any]) -> float:
    began = _now(settings)
    act()
    return _now(settings) - began


def _now(settings: Settings) -> float:
    """The clock, once all that was asked of the device is done."""
    if settings.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
