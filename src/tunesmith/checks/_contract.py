from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Protocol

from tunesmith.artifact import Variant
from tunesmith.runtimes._contract import Opened
from tunesmith.text.example import Ask, Prompt
from tunesmith.text.template import Text

Verdict = Literal["yes", "no", "cannot_tell"]


@dataclass(frozen=True)
class Finding:
    """What a check found: the question, whom it was asked of, the verdict, what was measured and what was allowed."""

    check: str
    export: str
    variant: str
    runtime: str
    verdict: Verdict
    measured: float | str | None
    bound: float | str | None
    why: str

    def as_json(self) -> Mapping[str, Any]:
        """The same for programs; keys as `docs/json.md` promises."""
        return asdict(self)


@dataclass(frozen=True)
class Look:
    """What a check finds, before it is said of which export and runtime."""

    verdict: Verdict
    measured: float | str | None
    bound: float | str | None
    why: str = ""


class Reference(Opened, Protocol):
    """The model in torch, which also gives the ids of its greedy answer."""

    def greedy(self, prompt: Prompt, max_tokens: int) -> Sequence[int]:
        """The ids of the greedy answer, its end token included where it ended by itself."""


@dataclass(frozen=True)
class Case:
    """What a check works on: the reference in torch and another runtime, both open, and what to ask them."""

    text: Text
    reference: Reference
    other: Opened
    takes_ids: bool
    variant: Variant
    n_layers: int
    asks: Sequence[Ask]
    max_tokens: int

    @property
    def quantised(self) -> bool:
        """Whether the weights were rounded so far that other answers may be right."""
        return self.variant.precision in ("8bit", "4bit")

    def answer_ids(self, prompt: Prompt) -> Sequence[int]:
        """The ids of the reference's greedy answer."""
        return self.reference.greedy(prompt, self.max_tokens)

    def wanted(self, ask: Ask) -> str:
        """The text of the reference's greedy answer."""
        return self.text.decode(list(self.answer_ids(self.text.prompt(ask))))

    def ends(self, ask: Ask) -> bool:
        """Whether the reference's greedy answer ends by itself."""
        ids = self.answer_ids(self.text.prompt(ask))
        return bool(ids) and ids[-1] in self.text.end_ids


class Check(Protocol):
    """Is it true that …?"""

    asks: ClassVar[str]  # the question, as a person would ask it

    def look(self, case: Case) -> Look:
        """The answer, with what was measured."""
