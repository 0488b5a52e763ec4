"""The rows that a proof asks: held out, never seen in training, and drawn by the seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith import files, say
from tunesmith.artifact import Run
from tunesmith.errors import DataError, Fault
from tunesmith.text.example import SYSTEM, Example, Message, n_system
from tunesmith.verbs._held_out import parted

N_LONGEST = 64


@dataclass(frozen=True)
class Question:
    """A row as it is asked: the turns before its last answer, and that answer."""

    ask: tuple[Message, ...]
    wanted: str
    file: str = ""
    line: int = 0
    content: str = ""
    """The hash of what the row says, whatever the system is told before it."""

    @property
    def system(self) -> tuple[Message, ...]:
        """The turns of the system that stand first."""
        return self.ask[: n_system(self.ask)]

    @property
    def turns(self) -> tuple[Message, ...]:
        """The turns behind those of the system."""
        return self.ask[len(self.system) :]

    @property
    def asked(self) -> str:
        """What the last of the turns says."""
        return str(self.ask[-1].get("content") or "") if self.ask else ""


@dataclass(frozen=True)
class Drawn:
    """What is asked, what may be shown as examples, and what was left out and why."""

    questions: tuple[Question, ...]
    train: tuple[Question, ...]
    longest: tuple[str, ...]
    """The longest answers of all rows, held out or not, by their characters."""
    n_held_out: int
    n_leaked: int
    n_not_asked: int

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "asked": len(self.questions),
            "held_out": self.n_held_out,
            "also_in_training": self.n_leaked,
            "not_asked": self.n_not_asked,
        }


def draw(run: Run, n_rows: int) -> Drawn:
    """At most `n_rows` held-out rows of a run that are in no training row, drawn by the recipe's seed.

    Raises:
        DataError: `prove/other-data`, `prove/no-held-out`, `prove/raw-text`, `prove/only-training-rows` or
            `prove/nothing-to-ask`.
    """
    train, test = _parted(run)
    if not test:
        fix = "name test rows in the recipe: data.test=FILE, or a fraction such as 0.1, and tune again"
        raise DataError(Fault("prove/no-held-out", "this run held no rows out, so nothing can be proved", fix=fix))
    if not all(one.is_chat for one in test):
        fix = "see its held-out loss in metrics.jsonl, or give rows with questions and answers"
        raise DataError(Fault("prove/raw-text", "the held-out rows are raw text, which has no answers", fix=fix))
    learnt = {_content(one) for one in train}
    unseen = [one for one in test if _content(one) not in learnt]
    n_leaked = len(test) - len(unseen)
    if not unseen:
        fix = "name other rows in data.test, or a fraction to hold out, such as 0.1, and tune again"
        what = f"all {len(test)} held-out rows are also training rows"
        raise DataError(Fault("prove/only-training-rows", what, fix=fix, file=test[0].file, line=test[0].line or None))
    if n_leaked:
        say.warn(f"{n_leaked} of {len(test)} held-out rows are also training rows, and are left out")
    can = [one for example in unseen if (one := question(example)) is not None]
    if not can:
        what = "no held-out row ends in an answer in words, and tools are not proved"
        fix = "name rows in data.test whose last turn is an answer of the assistant"
        raise DataError(Fault("prove/nothing-to-ask", what, fix=fix, file=test[0].file))
    # Shuffled and cut, so that fewer rows are the first of more, and what was asked before stays of use.
    asked = random.Random(run.recipe.run.seed).sample(can, len(can))[:n_rows]
    shown = [one for example in train if (one := question(example)) is not None]
    longest = tuple(sorted((one.wanted for one in (*can, *shown)), key=len)[-N_LONGEST:])
    return Drawn(tuple(asked), tuple(shown), longest, len(test), n_leaked, len(unseen) - len(can))


def question(example: Example) -> Question | None:
    """The row as it is asked; None where its last answer is not in words, or where it has tools."""
    if not example.is_chat or example.tools:
        return None
    at = max((i for i, one in enumerate(example.messages) if one["role"] == "assistant"), default=0)
    if not at or any(one.get("tool_calls") for one in example.messages):
        return None
    wanted = example.messages[at].get("content")
    if not isinstance(wanted, str):
        return None
    return Question(example.messages[:at], wanted, example.file, example.line, _content(example))


def n_learnt_by(run: Run, questions: Sequence[Question]) -> int:
    """How many of the questions are among the training rows of a run.

    Raises:
        DataError: `prove/other-data`, when its rows cannot be read any more.
    """
    learnt = {_content(one) for one in _parted(run)[0]}
    return sum(one.content in learnt for one in questions)


def _parted(run: Run) -> tuple[Sequence[Example], Sequence[Example]]:
    """The rows that the run learnt from, and those that it held out, where they are what they were."""
    from tunesmith.verbs._ready import data_hash

    recipe, manifest = run.recipe, run.manifest
    if manifest is None or data_hash(recipe) != manifest.parents["data"]:
        what = "the data is not what this run was tuned on, or cannot be found from here"
        fix = "put the files back as they were, and type it in the folder in which the run was tuned; or tune again"
        raise DataError(Fault("prove/other-data", what, fix=fix, file=", ".join(recipe.data.names)))
    return parted(run)


def _content(example: Example) -> str:
    """What a row says, whatever the system is told before it."""
    said = [(one["role"], one.get("content"), one.get("tool_calls")) for one in example.messages]
    return files.sha256_of([one for one in said if one[0] not in SYSTEM] or example.text)
