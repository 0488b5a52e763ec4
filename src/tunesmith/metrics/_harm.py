"""What is wrong with an answer whatever was wanted: it is empty, goes in circles, or does not stop."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

from tunesmith.metrics import _statistics
from tunesmith.runtimes._contract import Answer

COPIES = 3  # "no, no, no" is speech; it takes the length too
CHARACTERS = 60


def harms(answers: Sequence[Answer]) -> Mapping[str, Sequence[bool]]:
    """Whether each answer is `empty`, has a `loop`, or was `not_stopped` but by the limit, in their order."""
    return {
        "empty": [not _says_something(one.text) for one in answers],
        "loop": [has_loop(one.text) for one in answers],
        "not_stopped": [not one.stopped for one in answers],
    }


def shares(answers: Sequence[Answer]) -> Mapping[str, _statistics.Interval]:
    """The share of answers with each harm; empty without answers."""
    if not answers:
        return {}
    return {name: _statistics.share(sum(found), len(found)) for name, found in harms(answers).items()}


def has_loop(text: str) -> bool:
    """Whether some text stands at least three times in direct succession and so fills at least 60 characters.

    Rules of dashes and the like, without letters or digits, are no loop.
    """
    return any(_repeats(text, unit) for unit in _distances(text))


def _distances(text: str) -> set[int]:
    """How far apart the same piece stands again: what fills so much in so many copies has its pieces twice."""
    piece = CHARACTERS * (COPIES - 1) // COPIES
    last: dict[str, int] = {}
    found = set()
    for place in range(len(text) - piece + 1):
        before = last.get(text[place : place + piece])
        if before is not None:
            found.add(place - before)
        last[text[place : place + piece]] = place
    return found


def _repeats(text: str, unit: int) -> bool:
    """Whether a text of `unit` characters stands often enough in direct succession."""
    n_needed = max(COPIES * unit, CHARACTERS) - unit  # characters behind the first copy
    n_same = 0
    for place in range(unit, len(text)):
        n_same = n_same + 1 if text[place] == text[place - unit] else 0
        if n_same >= n_needed and _has_letter(text[place - unit : place]):
            return True
    return False


def _has_letter(text: str) -> bool:
    return any(one.isalnum() for one in text)


def _says_something(text: str) -> bool:
    """Whether any character can be seen."""
    return any(not one.isspace() and unicodedata.category(one) not in ("Cc", "Cf") for one in text)
