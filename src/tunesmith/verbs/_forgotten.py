"""What tuning cost elsewhere: how surprised a model is by plain text that has nothing to do with the task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunesmith.metrics import _statistics
from tunesmith.text.template import Text
from tunesmith.verbs._proof_arms import interval
from tunesmith.verbs._proof_asker import Asker
from tunesmith.verbs._proof_verdict import difference_as_json

NEUTRAL = Path(__file__).with_name("neutral.txt")


def nats(asker: Asker, text: Text, n_context: int) -> list[list[float]]:
    """Nats of each token of each built-in paragraph but its first; empty where the runtime cannot tell."""
    given = []
    for paragraph in NEUTRAL.read_text(encoding="utf-8").strip().split("\n\n"):
        ids = text.raw(paragraph)[:n_context]
        # What the tokenizer or a soft prompt puts before the text is given, and its first token.
        given.append((ids, max(1, len(ids) - len(text.encode(paragraph)) + 1)))
    told = asker.likelihoods(given, f"read plain text, {asker.speaker.name}")
    return [[-one for one in row] for row in told]


def forgotten(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]]) -> dict[str, Any] | None:
    """Mean nats a token before and after the tuning, and their difference; None where one of them is not known."""
    if not all(map(len, before)) or not all(map(len, after)) or len(before) != len(after):
        return None
    weights = [float(len(one)) for one in before]
    ours, theirs = ([sum(one) / len(one) for one in side] for side in (after, before))
    return {
        "before": interval(_statistics.mean(theirs, weights)),
        "after": interval(_statistics.mean(ours, weights)),
        "difference": difference_as_json(_statistics.difference(ours, theirs, weights)),
        "texts": len(before),
        "tokens": int(sum(weights)),
    }
