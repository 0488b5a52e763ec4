"""The arms of a proof: who was asked, what was sent, and how good and how dear the answers are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from tunesmith.metrics import _harm, _statistics
from tunesmith.metrics._contract import Figure, Metric, Row
from tunesmith.metrics._scoring import Scores, scores
from tunesmith.verbs._proof_asker import Said, Speaker
from tunesmith.verbs._proof_rows import Question

ENDPOINT = "endpoint"  # the runtime of a server of someone else, in whose name its address stands


@dataclass(frozen=True)
class Arm:
    """One way to get the answers, with what came of it."""

    name: str
    speaker: Speaker
    sent: str
    """What the model was given, in words."""
    said: tuple[Said, ...]
    scores: Mapping[str, Scores]
    quality: Mapping[str, _statistics.Interval]
    together: Mapping[str, Mapping[str, Figure]]
    harm: Mapping[str, _statistics.Interval] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    """Of the process that computes, with all that it needs beside the model; None where that is not known."""

    @property
    def title(self) -> str:
        """Its name, with the runtime where that is not torch."""
        is_in_name = self.speaker.runtime in ("torch", ENDPOINT)
        return self.name if is_in_name else f"{self.name} in {self.speaker.runtime}"

    @property
    def tokens(self) -> list[int]:
        """Tokens of prompt and answer, a row."""
        return [one.answer.n_prompt_tokens + one.answer.n_answer_tokens for one in self.said]

    @property
    def prompt_tokens(self) -> float:
        """Tokens of a prompt, on average."""
        return fmean(one.answer.n_prompt_tokens for one in self.said)

    @property
    def answer_tokens(self) -> float:
        """Tokens of an answer, on average."""
        return fmean(one.answer.n_answer_tokens for one in self.said)

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens of the answers by the whole time of their requests, of those that were asked alone."""
        alone = [one.answer for one in self.said if one.alone]
        seconds, n = sum(one.seconds for one in alone), sum(one.n_answer_tokens for one in alone)
        return n / seconds if n and seconds else None

    @property
    def milliseconds(self) -> float | None:
        """Of a request, on average over those that were asked alone; None where none was."""
        alone = [one.answer.seconds * 1000 for one in self.said if one.alone]
        return fmean(alone) if alone else None

    @property
    def first_milliseconds(self) -> float | None:
        """Until the first token, likewise; None where the runtime does not tell."""
        told = [one.answer.first_s * 1000 for one in self.said if one.alone and one.answer.first_s is not None]
        return fmean(told) if told else None

    def as_json(self) -> dict[str, Any]:
        """The same for programs; keys as `docs/json.md` promises."""
        return {
            "name": self.name,
            "runtime": self.speaker.runtime,
            "variant": self.speaker.variant,
            "sent": self.sent,
            "quality": {name: interval(one) for name, one in self.quality.items()},
            "together": {name: dict(told) for name, told in self.together.items() if told},
            "prompt_tokens": round(self.prompt_tokens, 2),
            "answer_tokens": round(self.answer_tokens, 2),
            "milliseconds": _rounded(self.milliseconds),
            "first_token_milliseconds": _rounded(self.first_milliseconds),
            "tokens_per_second": _rounded(self.tokens_per_second),
            "rows_timed": sum(one.alone for one in self.said),
            "bytes": self.speaker.n_bytes,
            "peak_memory_bytes": self.peak_memory_bytes,
            "harm": {name: interval(one) for name, one in self.harm.items()},
        }


def arm(
    name: str,
    speaker: Speaker,
    sent: str,
    questions: Sequence[Question],
    said: Sequence[Said],
    metrics: Mapping[str, Metric],
    logprobs: Sequence[Sequence[float]] = (),
    peak_memory_bytes: int | None = None,
) -> Arm:
    """An arm with its figures."""
    told = logprobs or [()] * len(said)
    rows = [
        Row(one.answer.text, question.wanted, question.asked, tuple(own))
        for one, question, own in zip(said, questions, told, strict=True)
    ]
    scored = {kind: scores(metric, rows) for kind, metric in metrics.items()}
    means = {kind: mean for kind, one in scored.items() if (mean := one.mean()) is not None}
    together = {kind: metric.together(rows) for kind, metric in metrics.items()}
    harm = _harm.shares([one.answer for one in said])
    return Arm(name, speaker, sent, tuple(said), scored, means, together, harm, peak_memory_bytes)


def interval(one: _statistics.Interval) -> dict[str, float | None]:
    """For programs; what is infinite is null."""
    return {"value": finite(one.value), "low": finite(one.low), "high": finite(one.high)}


def span(low: float, high: float, say: Callable[[float], str]) -> str:
    """An interval in words."""
    return f"{say(low)} to {say(high)}" if math.isfinite(low) and math.isfinite(high) else "no interval of one row"


def number(value: float, unit: str) -> str:
    """A score in words: a share as 84.0%, any other with two places."""
    return f"{value:.1%}" if unit == "share" else f"{value:.2f}"


def finite(value: float) -> float | None:
    """The number, or None where JSON has no word for it."""
    return round(value, 6) if math.isfinite(value) else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
