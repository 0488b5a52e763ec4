"""What kind of answers a data set wants: the one place where it is decided, for all metrics alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tunesmith.metrics import _json, _numbers

Kind = Literal["json", "labels", "numbers", "short", "long"]

NEARLY_ALL = 0.95  # a few odd rows do not make a data set another
LABEL_CHARACTERS = 100  # longer ones are texts, even where they repeat
FEW_NUMBERS = 10  # so few different numbers are grades or classes, not results
SHORT_CHARACTERS = 60  # about one line: longer answers are almost never the same letter by letter


def kind_of(wanted: Sequence[str]) -> tuple[Kind, str] | None:
    """The kind with its reason, as "all 350 answers are JSON objects"; None where there are no answers."""
    n = len(wanted)
    if not n:
        return None
    n_json = sum(isinstance(_json.read(one), dict | list) for one in wanted)
    if n_json >= NEARLY_ALL * n:
        return "json", f"{_of(n_json, n)} are JSON"
    n_numbers = sum(_numbers.is_result(one) for one in wanted)
    numeric = n_numbers >= NEARLY_ALL * n
    different = {one.strip() for one in wanted}
    if _are_labels(different, n) and not (numeric and len(different) > FEW_NUMBERS):
        return "labels", f"the {n} answers are {len(different)} different ones"
    if numeric:
        return "numbers", f"{_of(n_numbers, n)} are a number or end in one behind ####"
    n_short = sum(len(one.strip()) <= SHORT_CHARACTERS for one in wanted)
    if 2 * n_short > n:
        return "short", f"{_of(n_short, n)} have at most {SHORT_CHARACTERS} characters"
    return "long", f"{_of(n - n_short, n)} have more than {SHORT_CHARACTERS} characters"


def reason(wanted: Sequence[str], *kinds: Kind) -> str:
    """Why the answers are of one of these kinds; empty when they are not."""
    found = kind_of(wanted)
    return found[1] if found and found[0] in kinds else ""


def _are_labels(different: set[str], n: int) -> bool:
    """Each stands twice on average, there is something to tell apart, and none is a text."""
    return 2 <= len(different) <= n / 2 and all(
        len(one) <= LABEL_CHARACTERS and len(one.splitlines()) == 1 for one in different
    )


def _of(n_such: int, n: int) -> str:
    return f"all {n} answers" if n_such == n else f"{n_such} of {n} answers"
