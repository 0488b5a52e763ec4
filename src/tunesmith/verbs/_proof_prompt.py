"""The best prompt for the base: the data's own system prompt, and the examples that are most like the question."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.errors import DataError, Fault
from tunesmith.metrics._contract import Metric, Row
from tunesmith.metrics._scoring import scores
from tunesmith.text.example import Ask, Message
from tunesmith.text.template import Text
from tunesmith.verbs._proof_asker import Asker
from tunesmith.verbs._proof_rows import Question
from tunesmith.verbs._similar import Similar

HOW_MANY = (0, 2, 4, 8)
MOST_TRIED = 48  # rows on which the number of examples is chosen
MOST_SHOWN = 20_000  # rows among which examples are looked for


@dataclass(frozen=True)
class Room:
    """What an ask may hold: tokens of the prompt, as this text counts them, and of the answer."""

    text: Text
    n_prompt: int
    max_tokens: int

    def fits(self, ask: Ask) -> bool:
        """Whether there is room for it."""
        return len(self.text.prompt(ask).ids) <= self.n_prompt


class Prompter:
    """Puts a system prompt and examples from the training rows before a question."""

    def __init__(self, shown: Sequence[Question], system: str | None, room: Room) -> None:
        self._shown, self._room = shown, room
        self._system: tuple[Message, ...] = ({"role": "system", "content": system},) if system else ()
        self._similar = Similar([one.asked for one in shown])

    def ask(self, question: Question, n_examples: int) -> Ask:
        """The question behind the examples most like it, the most like last; fewer where there is no room for all."""
        near = self._similar.nearest(question.asked, n_examples)
        while True:
            shown = [turn for place in reversed(near) for turn in _whole(self._shown[place])]
            asked = (*(self._system or question.system), *shown, *question.turns)
            if not near or self._room.fits(asked):
                return asked
            near = near[:-1]


@dataclass(frozen=True)
class Prompted:
    """The asks with the number of examples that did best, and how each number did on so many rows."""

    asks: tuple[Ask, ...]
    n_examples: int
    tried: dict[int, float]
    n_tried: int


def prompted(
    questions: Sequence[Question],
    train: Sequence[Question],
    system: str | None,
    room: Room,
    metric: Metric,
    asker: Asker,
    seed: int,
) -> Prompted:
    """The questions with the best prompt. How many examples is tried on training rows that are not among them."""
    tried, shown = _parted(train, room, seed)
    prompter = Prompter(shown, system, room)
    _try(prompter, questions[0], room)
    means: dict[int, float] = {}
    sign = 1 if metric.higher_is_better else -1
    for n in HOW_MANY if tried else ():
        if n > len(shown):
            break
        asks = [prompter.ask(one, n) for one in tried]
        said = asker.answers(asks, room.max_tokens, f"try {n} examples", n_alone=0)
        rows = [Row(one.answer.text, q.wanted, q.asked) for one, q in zip(said, tried, strict=True)]
        mean = scores(metric, rows).mean()
        means[n] = mean.value if mean else float("-inf") * sign
    best = max(means, key=lambda n: (sign * means[n], -n), default=0)
    return Prompted(tuple(prompter.ask(one, best) for one in questions), best, means, len(tried))


def _try(prompter: Prompter, question: Question, room: Room) -> None:
    """Refuses what the template of the base does not take, before anything is asked."""
    try:
        room.text.prompt(prompter.ask(question, min(HOW_MANY)))
        room.text.prompt(prompter.ask(question, max(HOW_MANY)))
    except Exception as error:  # noqa: BLE001  # a template is a program of someone else
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        what = f"the chat template of the base refuses this prompt: {said}"
        fix = "leave --system out, or put its words before the question in the data"
        raise DataError(Fault("prove/template-refuses", what, fix=fix, place="the prompted base")) from None


def _parted(train: Sequence[Question], room: Room, seed: int) -> tuple[list[Question], list[Question]]:
    """(rows to try on, rows to show); none that is tried is shown, not even as another row of the same words."""
    drawn = random.Random(seed).sample(list(train), min(MOST_SHOWN, len(train)))
    n = min(MOST_TRIED, len(drawn) // 5 or min(1, len(drawn) - 1)) if drawn else 0
    tried = [one for one in drawn[:n] if room.fits(one.ask)]
    taken = {(one.asked, one.wanted) for one in tried}
    return tried, [one for one in drawn[n:] if (one.asked, one.wanted) not in taken]


def _whole(question: Question) -> tuple[Message, ...]:
    return (*question.turns, {"role": "assistant", "content": question.wanted})
