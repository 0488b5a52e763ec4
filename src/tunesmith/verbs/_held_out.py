"""Rows of a run's own data, to ask its model: those of its test file, else those that it learnt from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tunesmith import say
from tunesmith.artifact import Run
from tunesmith.errors import TunesmithError
from tunesmith.text.example import Ask, Example
from tunesmith.verbs._dropped import as_learnt


def held_out_rows(run: Run) -> list[Example]:
    """The rows of the run's test file, or of its training data where it has none; empty where they are gone."""
    from tunesmith.formats._reading import read

    data = run.recipe.data
    train = data.names, [one.format for one in data.parts]
    try:
        examples = read(*((data.test, data.format) if isinstance(data.test, str) else train)).examples
    except TunesmithError:
        return []
    return [as_learnt(data, one) for one in examples]


def spread_rows(run: Run, n: int) -> Sequence[Example]:
    """`n` of them at equal distances, since files are often sorted by what the answer is."""
    rows = held_out_rows(run)
    return rows if len(rows) <= n else [rows[at * len(rows) // n] for at in range(n)]


def held_out_asks(run: Run, n: int, fits: Callable[[Ask], bool] = lambda _: True) -> list[Ask]:
    """The first `n` prompts of the run's test rows, or of its training rows where it has no test file.

    Those that call for tools, which no runtime is handed here, and those that do not fit are passed over, and that is
    said.
    """
    asks: list[Ask] = []
    n_passed = 0
    for example in held_out_rows(run):
        if len(asks) == n:
            break
        ask = _ask_of(example)
        if example.tools or not fits(ask):
            n_passed += 1
        else:
            asks.append(ask)
    if n_passed:
        say.note(f"{n_passed} rows of your data are not asked: they have tools, or are longer than the checks take")
    return asks


def _ask_of(example: Example) -> Ask:
    """What comes before its last answer; the first words of a raw text."""
    if not example.is_chat:
        return " ".join(example.text.split()[:8])
    last = max(i for i, message in enumerate(example.messages) if message["role"] == "assistant")
    return example.messages[:last]
