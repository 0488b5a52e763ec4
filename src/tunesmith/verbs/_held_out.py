"""Rows of a run's own data, to ask its model: those that it held out, else those that it learnt from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tunesmith import say
from tunesmith.artifact import Run
from tunesmith.errors import TunesmithError
from tunesmith.text.example import Ask, Example
from tunesmith.verbs._dropped import as_learnt


def parted(run: Run) -> tuple[Sequence[Example], Sequence[Example]]:
    """The rows that a run learnt from, and those that it held out, as they stand in its files.

    Raises:
        DataError: when they cannot be read.
    """
    from tunesmith.formats._reading import read
    from tunesmith.formats._split import split

    data = run.recipe.data
    named = data.test if isinstance(data.test, str) else None
    train = read(data.names, [one.format for one in data.parts], named).examples
    if named:
        return train, read(named, data.format).examples
    if not isinstance(data.test, float) or not train:
        return train, ()
    learnt = [as_learnt(data, one) for one in train]  # as they were when the run parted them
    whole = {id(one): row for one, row in zip(learnt, train, strict=True)}
    kept, held = split(learnt, data.test, run.recipe.run.seed)
    return [whole[id(one)] for one in kept], [whole[id(one)] for one in held]


def held_out_rows(run: Run) -> list[Example]:
    """The rows that a run held out, or those that it learnt from where it held none out; empty where they are gone."""
    try:
        rows = _to_ask(run)
    except TunesmithError:
        return []
    data = run.recipe.data
    return [as_learnt(data, one) for one in rows]


def _to_ask(run: Run) -> Sequence[Example]:
    from tunesmith.formats._reading import read

    data = run.recipe.data
    if isinstance(data.test, str):
        return read(data.test, data.format).examples  # the rows to learn from may be many, and are not read
    learnt, held_out = parted(run)
    return held_out or learnt


def spread_rows(run: Run, n: int) -> Sequence[Example]:
    """`n` of them at equal distances, since files are often sorted by what the answer is."""
    rows = held_out_rows(run)
    return rows if len(rows) <= n else [rows[at * len(rows) // n] for at in range(n)]


def held_out_asks(run: Run, n: int, fits: Callable[[Ask], bool] = lambda _: True) -> list[Ask]:
    """The first `n` prompts of the rows that the run held out, or of its training rows where it held none out.

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
