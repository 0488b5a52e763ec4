"""What tuning cost elsewhere: plain text and questions that have nothing to do with the task, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.metrics import _statistics
from tunesmith.text.template import Text
from tunesmith.verbs._proof_arms import interval
from tunesmith.verbs._proof_asker import Asker
from tunesmith.verbs._proof_verdict import difference_as_json

NEUTRAL = Path(__file__).with_name("neutral.txt")
QUESTIONS = Path(__file__).with_name("neutral_questions.txt")
MOST_TOKENS = 48  # of an answer: enough to see whether it still answers


@dataclass(frozen=True)
class Neutral:
    """What a model makes of the built-in texts and questions.

    `nats` of each token of each paragraph but its first, empty where the runtime cannot tell; an answer a question.
    """

    nats: Sequence[Sequence[float]]
    answers: Sequence[str] = ()


def neutral(asker: Asker, text: Text, n_context: int) -> Neutral:
    """The built-in paragraphs read, and the built-in questions answered."""
    given = []
    for paragraph in NEUTRAL.read_text(encoding="utf-8").strip().split("\n\n"):
        ids = text.raw(paragraph)[:n_context]
        # What the tokenizer or a soft prompt puts before the text is given, and its first token.
        given.append((ids, max(1, len(ids) - len(text.encode(paragraph)) + 1)))
    told = asker.likelihoods(given, f"read plain text, {asker.speaker.name}")
    asks = [({"role": "user", "content": one},) for one in _questions()]
    said = asker.answers(asks, MOST_TOKENS, f"ask plain questions, {asker.speaker.name}", n_alone=0)
    return Neutral([[-one for one in row] for row in told], [one.answer.text for one in said])


def forgotten(before: Neutral, after: Neutral) -> dict[str, Any] | None:
    """Mean nats a token before and after the tuning and their difference, and the answers of both side by side.

    None where the nats of one of them are not known.
    """
    if not all(map(len, before.nats)) or not all(map(len, after.nats)) or len(before.nats) != len(after.nats):
        return None
    weights = [float(len(one)) for one in before.nats]
    ours, theirs = ([sum(one) / len(one) for one in side.nats] for side in (after, before))
    answers = zip(_questions(), before.answers, after.answers, strict=False)
    return {
        "before": interval(_statistics.mean(theirs, weights)),
        "after": interval(_statistics.mean(ours, weights)),
        "difference": difference_as_json(_statistics.difference(ours, theirs, weights)),
        "texts": len(before.nats),
        "tokens": int(sum(weights)),
        "answers": [{"asked": asked, "before": one, "after": other} for asked, one, other in answers],
    }


def _questions() -> list[str]:
    return QUESTIONS.read_text(encoding="utf-8").splitlines()
