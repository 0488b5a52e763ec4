"""Which examples are learnt from and which are held out."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith import files
from tunesmith.errors import DataError, Fault
from tunesmith.text.example import Example


def split(examples: Sequence[Example], fraction: float, seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """(to learn from, held out), both in the order of the file; about `fraction` of the examples is held out.

    Which ones depends on the seed and on each example's own content: rows that are equal fall on the same side, and the
    order of the file does not matter.

    Raises:
        DataError: `data/too-few-to-split`, when one of the sides would be empty.
    """
    equal: dict[str, list[int]] = {}
    for at, one in enumerate(examples):
        equal.setdefault(_content(one, seed), []).append(at)
    if len(equal) < 2:
        what = f"{len(examples)} examples cannot be parted into some to learn from and some to hold out"
        raise DataError(Fault("data/too-few-to-split", what, fix="give more rows, or name a test file in data.test"))
    wanted = max(1, round(len(examples) * fraction))
    held: set[int] = set()
    for _, places in sorted(equal.items()):
        if len(held) + len(places) <= min(wanted, len(examples) - 1):
            held.update(places)
    smallest = min(equal.values(), key=len)
    held = held or set(smallest)
    return (
        tuple(one for at, one in enumerate(examples) if at not in held),
        tuple(one for at, one in enumerate(examples) if at in held),
    )


def shared(train: Sequence[Example], test: Sequence[Example]) -> list[Example]:
    """The test rows that are also training rows, by their content."""
    learnt = {_content(one) for one in train}
    return [one for one in test if _content(one) in learnt]


def _content(example: Example, seed: int = 0) -> str:
    return files.sha256_of([seed, example.messages, example.tools, example.text])
