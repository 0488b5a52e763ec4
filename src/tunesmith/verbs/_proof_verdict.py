"""What the figures of a proof come to: is the tuned model better, does it take fewer tokens, is it faster?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith.metrics import _statistics
from tunesmith.metrics._contract import Metric
from tunesmith.metrics._statistics import Difference
from tunesmith.verbs._proof_arms import Arm, finite, number, span

Verdict = Literal["ship", "do not ship", "cannot tell"]
Says = Literal["yes", "no", "cannot tell"]
AS_GOOD = {"share": 0.02, "points": 2.0, "grade": 0.1, "nats": 0.02}
"""So little worse, by the low end of the interval, is as good: then fewer tokens or less time decide."""
LEAST_TIME = 0.05
"""Share of the time by which the near end of the interval must lie apart: a machine's own speed drifts as much."""
HARMS = {"empty": "empty answers", "loop": "answers that go in circles", "not_stopped": "answers that do not stop"}


@dataclass(frozen=True)
class Line:
    """One of the three questions, its answer, and the numbers."""

    asks: str
    says: Says
    told: str


@dataclass(frozen=True)
class Judged:
    """The verdict with its reasons. `against` is the better of the arms without tuning."""

    verdict: Verdict
    sentence: str
    against: Arm
    better: Difference
    lines: tuple[Line, Line, Line]
    warnings: tuple[str, ...]
    payback_requests: int | None
    """Requests until the time of the tuning is saved; None where no time is."""


def judge(metric: Metric, tuned: Arm, others: Sequence[Arm], elsewhere: Sequence[Arm], tuning_s: float) -> Judged:
    """Whether to ship the tuned model, decided by `metric`.

    Args:
        metric: what decides.
        tuned: the tuned model in torch.
        others: the arms without tuning, on the same rows.
        elsewhere: the tuned model in other runtimes.
        tuning_s: seconds that the tuning took.
    """
    sign = 1 if metric.higher_is_better else -1
    against = max(others, key=lambda one: sign * one.quality[metric.kind].value)
    better = _apart(metric.kind, tuned, against)
    quality = _quality_line(metric, tuned, against, better)
    tokens = _tokens_line(tuned, against)
    time, payback = _time_line(tuned, against, tuning_s)
    is_of_use = not metric.higher_is_better or tuned.quality[metric.kind].value > 0
    verdict = _verdict(metric, better, quality.says, is_cheaper=is_of_use and _is_cheaper(tokens.says, time.says))
    sentence = _sentence(verdict, metric, tuned, against, better)
    warnings = (*_harmed(tuned, against), *_worse_elsewhere(metric, tuned, elsewhere))
    return Judged(verdict, sentence, against, better, (quality, tokens, time), warnings, payback)


def _apart(kind: str, one: Arm, other: Arm) -> Difference:
    found = one.scores[kind].against(other.scores[kind])
    assert found is not None  # a metric that decides applies to some row
    return found


def _verdict(metric: Metric, better: Difference, quality: Says, *, is_cheaper: bool) -> Verdict:
    if quality != "cannot tell":
        return "ship" if quality == "yes" else "do not ship"
    worst = better.low if metric.higher_is_better else -better.high
    return "ship" if worst >= -AS_GOOD[metric.unit] and is_cheaper else "cannot tell"


def _is_cheaper(*says: Says) -> bool:
    return "yes" in says and "no" not in says


def _sentence(verdict: Verdict, metric: Metric, tuned: Arm, against: Arm, better: Difference) -> str:
    ours, theirs = (number(one.quality[metric.kind].value, metric.unit) for one in (tuned, against))
    rows = "1 row" if better.n == 1 else f"{better.n:,} rows"
    figures = f"{ours} against {theirs} ({metric.kind.replace('_', ' ')}, {rows})"
    if verdict == "ship":
        is_better = _says(better, higher_is_better=metric.higher_is_better) == "yes"
        return f"Ship: the tuned model is {'better' if is_better else 'as good, and costs less'}: {figures}."
    if verdict == "do not ship":
        instead = "prompt the base instead" if against.name != "base" else "use the base as it is instead"
        return f"Do not ship: {instead}; tuning made it worse: {figures}."
    return f"Cannot tell: {figures}, and on so few rows that may be chance; hold out more, or raise --rows."


def _quality_line(metric: Metric, tuned: Arm, against: Arm, better: Difference) -> Line:
    says = _says(better, higher_is_better=metric.higher_is_better)
    ours, theirs = (_with_interval(metric, one) for one in (tuned, against))
    won, lost = (better.more, better.less) if metric.higher_is_better else (better.less, better.more)
    told = (
        f"{metric.kind} {ours} against {theirs} of {against.name}: {_signed(metric, better)}, "
        f"p {_p(better.p)}; {won} rows won, {lost} lost of {better.n}"
    )
    return Line("better?", says, told)


def _tokens_line(tuned: Arm, against: Arm) -> Line:
    found = _statistics.difference(tuned.tokens, against.tokens)
    told = (
        f"{tuned.prompt_tokens + tuned.answer_tokens:,.0f} tokens a request ({tuned.prompt_tokens:,.0f} prompt, "
        f"{tuned.answer_tokens:,.0f} answer) against {against.prompt_tokens + against.answer_tokens:,.0f} "
        f"({against.prompt_tokens:,.0f}, {against.answer_tokens:,.0f}): {_less(found, 'tokens')}"
    )
    return Line("fewer tokens?", _says(found, higher_is_better=False), told)


def _time_line(tuned: Arm, against: Arm, tuning_s: float) -> tuple[Line, int | None]:
    both = [(a, b) for a, b in zip(tuned.said, against.said, strict=True) if a.alone and b.alone]
    if not both:
        return Line("faster?", "cannot tell", "no row was asked alone in both"), None
    ours, theirs = ([pair[at].answer.seconds * 1000 for pair in both] for at in (0, 1))
    found = _statistics.difference(ours, theirs)
    says = _says(found, higher_is_better=False)
    nearest = min(abs(found.low), abs(found.high))
    if nearest < LEAST_TIME * sum(theirs) / len(theirs):
        says = "cannot tell"
    saved_s = -found.value / 1000
    payback = math.ceil(tuning_s / saved_s) if says == "yes" and tuning_s else None
    told = (
        f"{sum(ours) / len(ours):,.0f} ms a request against {sum(theirs) / len(theirs):,.0f}: "
        f"{_less(found, 'ms')}, on {len(both)} rows in {tuned.speaker.runtime}"
    )
    paid = f"; {tuning_s:,.0f} s of tuning are paid back after {payback:,} requests" if payback else ""
    return Line("faster?", says, told + paid), payback


def _harmed(tuned: Arm, against: Arm) -> list[str]:
    """Harms that are surely more frequent: the intervals of the two shares do not touch."""
    return [
        f"{HARMS[name]}: {own.value:.0%} of the tuned model's, {against.harm[name].value:.0%} of {against.name}'s"
        for name, own in tuned.harm.items()
        if own.low > against.harm[name].high
    ]


def _worse_elsewhere(metric: Metric, tuned: Arm, elsewhere: Sequence[Arm]) -> list[str]:
    return [
        f"{one.name} in {one.speaker.runtime} is worse than in torch: {_signed(metric, found)}; do not ship this file"
        for one in elsewhere
        if metric.kind in one.quality
        and _says(found := _apart(metric.kind, one, tuned), higher_is_better=metric.higher_is_better) == "no"
    ]


def _says(found: Difference, *, higher_is_better: bool) -> Says:
    words: dict[_statistics.Verdict, Says] = {"better": "yes", "worse": "no", "cannot_tell": "cannot tell"}
    return words[_statistics.verdict(found, higher_is_better=higher_is_better)]


def _with_interval(metric: Metric, one: Arm) -> str:
    found = one.quality[metric.kind]
    return f"{number(found.value, metric.unit)} ({span(found.low, found.high, lambda end: number(end, metric.unit))})"


def _signed(metric: Metric, found: Difference) -> str:
    times = 100 if metric.unit == "share" else 1
    unit = "points" if metric.unit in ("share", "points") else metric.unit
    return f"{times * found.value:+.1f} {unit} ({span(times * found.low, times * found.high, '{:+.1f}'.format)})"


def _less(found: Difference, unit: str) -> str:
    is_less = found.value <= 0
    word = ("less" if unit == "ms" else "fewer") if is_less else "more"
    low, high = (-found.high, -found.low) if is_less else (found.low, found.high)
    return f"{abs(found.value):,.0f} {unit} {word} ({span(low, high, '{:,.0f}'.format)})"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def difference_as_json(found: Difference) -> dict[str, Any]:
    """For programs."""
    return {
        **{name: finite(getattr(found, name)) for name in ("value", "low", "high", "p")},
        "rows": found.n,
        "more": found.more,
        "less": found.less,
    }
