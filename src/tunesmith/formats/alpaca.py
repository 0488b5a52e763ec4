"""Orders as Alpaca has them: `{"instruction": "...", "input": "...", "output": "..."}`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from tunesmith.errors import Fault
from tunesmith.formats._conversation import check, said
from tunesmith.formats._foreign import cure
from tunesmith.formats._turn import Place, unknown_keys
from tunesmith.text.example import Example

INPUTS, OUTPUTS = ("input", "context"), ("output", "response")  # Alpaca's words, and Dolly's
ROW_KEYS = ("instruction", *INPUTS, *OUTPUTS, "system", "history")


class Alpaca:
    """Alpaca's `instruction`, `input` and `output` (Dolly's `context` and `response`); `system` and `history`."""

    kind: ClassVar[str] = "alpaca"

    def __init__(self) -> None:
        self.ignored: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """A row that has `instruction` and `output` or `response`, and no list of turns."""
        has_turns = "messages" in row or "conversations" in row
        return "instruction" in row and any(key in row for key in OUTPUTS) and not has_turns

    def read(self, row: Mapping[str, Any], file: str, line: int) -> Example | list[Fault]:
        """The order and its answer as a conversation, or every fault of the row."""
        place = Place(file, line)
        self.ignored.update(unknown_keys(row, ROW_KEYS, place))
        output = next((key for key in OUTPUTS if key in row), OUTPUTS[0])
        if "instruction" not in row or output not in row:
            return place.faults or [_missing(row, output, place)]
        turns = []
        if row.get("system") not in (None, ""):
            turns.append(said("system", row["system"], "system", place))
        turns += _history(row.get("history"), place)
        turns.append(_order(row, place))
        turns.append(said("assistant", row[output], output, place))
        if place.faults:
            return place.faults
        whole = [turn for turn in turns if turn is not None]
        learn = [turn["role"] == "assistant" for turn in whole]
        check(whole, learn, place, output)
        return place.faults or Example(tuple(whole), tuple(learn), file=file, line=line)


def _missing(row: Mapping[str, Any], output: str, place: Place) -> Fault:
    key = "instruction" if "instruction" not in row else output
    what = f"this row has no {key}; it has {', '.join(map(str, row)) or 'nothing'}"
    code = "data/no-prompt" if key == "instruction" else "data/no-completion"
    fix = cure(row, "alpaca") or f"add {key}, or remove the row"
    if code == "data/no-prompt":
        return Fault("data/no-prompt", what, fix=fix, **place.at(key))
    return Fault("data/no-completion", what, fix=fix, **place.at(key))


def _order(row: Mapping[str, Any], place: Place) -> dict[str, Any] | None:
    """What the user says: the instruction, and below a blank line what it is about."""
    instruction = row["instruction"]
    key = next((one for one in INPUTS if row.get(one) not in (None, "")), "")
    about = row.get(key)
    if not key or (isinstance(about, str) and not about.strip()):
        return said("user", instruction, "instruction", place)
    if not isinstance(about, str):
        return said("user", about, key, place)
    if isinstance(instruction, str) and instruction.strip():
        return said("user", f"{instruction}\n\n{about}", "instruction", place)
    return said("user", about if instruction in (None, "") else instruction, "instruction", place)


def _history(given: Any, place: Place) -> list[dict[str, Any] | None]:
    """Earlier turns: pairs of what the user said and the answer."""
    if given is None or given == "":
        return []
    pairs = given if isinstance(given, list) else [given]
    turns: list[dict[str, Any] | None] = []
    for number, pair in enumerate(pairs):
        if not isinstance(pair, list) or len(pair) != 2:
            what = f"{pair!r:.40} is no pair of an order and its answer"
            fix = 'write [["order", "answer"], ...]'
            place.faults.append(Fault("data/bad-history", what, fix=fix, **place.at(f"history[{number}]")))
            continue
        turns.append(said("user", pair[0], f"history[{number}][0]", place))
        turns.append(said("assistant", pair[1], f"history[{number}][1]", place))
    return turns
