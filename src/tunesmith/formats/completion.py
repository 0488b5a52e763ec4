"""Pairs: `{"prompt": "...", "completion": "..."}`, also as question and answer and the like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from tunesmith.errors import Fault
from tunesmith.formats._conversation import check, read_tools, said
from tunesmith.formats._foreign import cure
from tunesmith.formats._turn import Place, read_turn, unknown_keys
from tunesmith.text.example import Example

PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("prompt", "output"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("query", "answer"),
    ("input", "output"),
)


class Completion:
    """A prompt and its completion, which alone is learnt; both texts, or both lists of messages. `system`, `tools`."""

    kind: ClassVar[str] = "completion"

    def __init__(self) -> None:
        self.ignored: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self._pair = PAIRS[0]

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """A row that has one of the pairs, and neither a list of turns nor an `instruction`."""
        is_other = any(key in row for key in ("messages", "conversations", "instruction"))
        return not is_other and _pair_of(row) is not None

    def read(self, row: Mapping[str, Any], file: str, line: int) -> Example | list[Fault]:
        """The prompt and its completion as a conversation, or every fault of the row."""
        place = Place(file, line)
        pair = _pair_of(row)
        self._pair = pair or self._pair
        self.ignored.update(unknown_keys(row, (*self._pair, "system", "tools"), place))
        if pair is None:
            return place.faults or [_missing(row, self._pair, place)]
        prompt, completion = (row[key] for key in pair)
        tools = read_tools(row.get("tools"), place)
        turns: list[dict[str, Any] | None] = []
        if row.get("system") not in (None, ""):
            turns.append(said("system", row["system"], "system", place))
        turns += _side("user", prompt, pair[0], place)
        n_given = len(turns)
        turns += _side("assistant", completion, pair[1], place)
        whole = [turn for turn in turns if turn is not None]
        if place.faults:
            return place.faults
        learn = [at >= n_given and turn["role"] == "assistant" for at, turn in enumerate(whole)]
        check(whole, learn, place, pair[1])
        return place.faults or Example(tuple(whole), tuple(learn), tuple(tools), file=file, line=line)


def _pair_of(row: Mapping[str, Any]) -> tuple[str, str] | None:
    return next((pair for pair in PAIRS if pair[0] in row and pair[1] in row), None)


def _side(role: str, given: Any, key: str, place: Place) -> list[dict[str, Any] | None]:
    """A text as one turn; a list of messages as they are."""
    is_turns = isinstance(given, list) and any(isinstance(one, Mapping) and "role" in one for one in given)
    if not is_turns:
        return [said(role, given, key, place)]
    return [read_turn(one, place.below(f"{key}[{number}]")) for number, one in enumerate(given)]


def _missing(row: Mapping[str, Any], pair: tuple[str, str], place: Place) -> Fault:
    prompt, completion = pair
    there = ", ".join(map(str, row)) or "nothing"
    if prompt not in row:
        fix = cure(row, "completion") or f"add {prompt}, or remove the row"
        return Fault("data/no-prompt", f"this row has no {prompt}; it has {there}", fix=fix, **place.at(prompt))
    fix = cure(row, "completion") or f"add {completion}, or remove the row"
    return Fault("data/no-completion", f"this row has no {completion}; it has {there}", fix=fix, **place.at(completion))
