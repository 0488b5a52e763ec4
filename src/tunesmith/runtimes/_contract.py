from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from tunesmith.artifact import Export
from tunesmith.text.example import Ask, Prompt
from tunesmith.text.template import Text


@dataclass(frozen=True)
class Found:
    """Whether a runtime is here: its version and place, or how to get it."""

    here: bool
    version: str = ""
    where: str = ""
    get: str = ""
    holds: str = ""
    """What a runtime that keeps models of its own has of the export that was asked about."""


@dataclass(frozen=True)
class Answer:
    """A greedy answer. `stopped` is True when the model ended it by itself, False when the limit cut it."""

    text: str
    stopped: bool
    n_prompt_tokens: int
    n_answer_tokens: int
    seconds: float
    first_s: float | None = None
    """Seconds until the first token; None where the runtime does not tell."""


class Opened(Protocol):
    """A model that is loaded and can be asked.

    Each method may raise `CannotTell` where the runtime has no way to answer, and `RuntimeFault` where it failed.
    """

    def render(self, ask: Ask) -> str:
        """The prompt as this runtime renders it, the generation prompt included; of a raw text, the text."""

    def tokens(self, text: str) -> Sequence[int] | int:
        """The token ids of a rendered prompt, as this runtime would feed them; or their number where it shows no ids.

        A beginning-of-text token that the runtime itself would add is included.
        """

    def logprobs(self, prompt: Prompt, top: int) -> Mapping[int, float]:
        """Natural log-probabilities of the `top` likeliest next tokens after the prompt, by id.

        Runtimes that take ids use `prompt.ids`, others `prompt.text`. Unscaled: temperature 1, nothing filtered.
        """

    def answer(self, ask: Ask, max_tokens: int) -> Answer:
        """The greedy answer: temperature 0, no repetition penalty. Special tokens are left out of its text."""


class Runtime(Protocol):
    """How files are asked a question."""

    kind: ClassVar[str]
    takes_ids: ClassVar[bool]  # `logprobs` uses the ids, so that any position of an answer can be asked for

    def present(self) -> Found:
        """Whether it can be used on this machine. Fast: it loads nothing."""

    def open(self, export: Export, variant: str, text: Text) -> AbstractContextManager[Opened]:
        """Load one variant of an export; `text` is the tokenizer of the model it was made from.

        Raises:
            CannotTell: the runtime is not here; holds how to get it.
            RuntimeFault: it is here and could not load the file.
        """


@runtime_checkable
class Keeper(Protocol):
    """A runtime that keeps models of its own: where an export is asked and what stands there change by themselves."""

    def present_for(self, export: Export) -> Found:
        """Whether it can be used where this export is asked, and what it `holds` of it."""


@runtime_checkable
class Together(Protocol):
    """A loaded model that can be asked much at once."""

    def answers(self, asks: Sequence[Ask], max_tokens: int) -> Iterator[tuple[int, Answer]]:
        """The place of each ask and its greedy answer, as they come; the same as one by one, ties and rounding aside.

        The seconds are an even share of those of a batch: what a request costs here, and not how long one takes.
        """


@runtime_checkable
class Elsewhere(Protocol):
    """A loaded model that computes in another process than this one."""

    def peak_memory_bytes(self) -> int | None:
        """The most memory that it has held there so far; None where that cannot be known."""


@runtime_checkable
class Scorer(Protocol):
    """A loaded model that tells how likely it holds a text."""

    def likelihoods(self, texts: Sequence[tuple[Sequence[int], int]]) -> Iterator[tuple[int, list[float]]]:
        """The place of each text, and natural log-probabilities of its ids behind the first so many, as they come.

        A text is its ids (T,) and how many of them are given.
        """
