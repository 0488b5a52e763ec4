"""What a proof came to, with everything that it was decided by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.artifact import Run
from tunesmith.metrics._contract import Metric
from tunesmith.verbs._proof_arms import Arm, finite
from tunesmith.verbs._proof_prompt import Prompted
from tunesmith.verbs._proof_rows import Drawn
from tunesmith.verbs._proof_verdict import Judged, Line, difference_as_json

PAGE = "report.html"


@dataclass(frozen=True)
class Row:
    """A held-out row on which the tuned model and the other answered unequally well."""

    asked: str
    wanted: str
    tuned: str
    other: str
    place: str

    def as_json(self) -> dict[str, str]:
        """For programs."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Proof:
    """Whether tuning was worth it, with everything that it was decided by.

    `ok` when the verdict is to ship.
    """

    judged: Judged
    metric: Metric
    chosen: Mapping[str, str]
    """Each metric with why it was taken."""
    drawn: Drawn
    arms: tuple[Arm, ...]
    skipped: Mapping[str, str]
    """What was not asked, and why."""
    examples: Prompted
    won: tuple[Row, ...]
    lost: tuple[Row, ...]
    forgotten: Mapping[str, Any] | None
    tuning_s: float
    max_tokens: int
    html: Path
    run: Run = field(repr=False)
    kept: bool = False
    """Whether nothing had to be asked."""

    @property
    def ok(self) -> bool:
        """Whether the tuned model is to be shipped."""
        return self.judged.verdict == "ship"

    @property
    def lines(self) -> tuple[Line, Line, Line]:
        """Better? Fewer tokens? Faster?"""
        return self.judged.lines

    def as_json(self) -> dict[str, Any]:
        """The same for programs; keys as `docs/json.md` promises."""
        return {
            "verdict": self.judged.verdict,
            "sentence": self.judged.sentence,
            "lines": [dict(one.__dict__) for one in self.lines],
            "warnings": list(self.judged.warnings),
            "metric": self.metric.kind,
            "metrics": [{"name": name, "why": why} for name, why in self.chosen.items()],
            "rows": self.drawn.as_json(),
            "against": self.judged.against.name,
            "difference": difference_as_json(self.judged.better),
            "arms": [one.as_json() for one in self.arms],
            "skipped": [{"name": name, "why": why} for name, why in self.skipped.items()],
            "examples": {
                "chosen": self.examples.n_examples,
                "rows": self.examples.n_tried,
                "tried": [{"examples": n, "value": finite(value)} for n, value in self.examples.tried.items()],
            },
            "won": [one.as_json() for one in self.won],
            "lost": [one.as_json() for one in self.lost],
            "forgotten": self.forgotten,
            "tuning_seconds": self.tuning_s,
            "payback_requests": self.judged.payback_requests,
            "max_tokens": self.max_tokens,
            "html": str(self.html),
        }
