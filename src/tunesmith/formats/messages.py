"""Chat rows as OpenAI's tuning takes them: `{"messages": [{"role": "user", "content": "..."}, ...]}`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from tunesmith.errors import Fault
from tunesmith.formats._conversation import check, pass_opening, read_tools
from tunesmith.formats._foreign import cure
from tunesmith.formats._turn import KEYS, Place, read_turn, read_weight, unknown_keys
from tunesmith.text.example import Example

ROW_KEYS = ("messages", "tools", "parallel_tool_calls")


class Messages:
    """OpenAI's `messages`: roles system, developer, user, assistant and tool; `tools`, `tool_calls` and `weight`."""

    kind: ClassVar[str] = "messages"

    def __init__(self) -> None:
        self.ignored: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """A row that has `messages`."""
        return "messages" in row

    def read(self, row: Mapping[str, Any], file: str, line: int) -> Example | list[Fault]:
        """The conversation in a row, or every fault of the row."""
        place = Place(file, line)
        self.ignored.update(unknown_keys(row, ROW_KEYS, place))
        given = _messages(row, place)
        tools = read_tools(row.get("tools"), place)
        turns, learn = self._turns(given, place)
        if given and len(turns) == len(given):
            check(turns, learn, place, "messages")
        if place.faults or not turns:
            return place.faults
        return Example(tuple(turns), tuple(learn), tuple(tools), file=file, line=line)

    def _turns(self, given: list[Any], place: Place) -> tuple[list[dict[str, Any]], list[bool]]:
        turns, learn = [], []
        for number, value in enumerate(given):
            here = place.below(f"messages[{number}]")
            turn = read_turn(value, here)
            if turn is not None:
                self.ignored.update(f"messages[].{key}" for key in unknown_keys(value, KEYS, here))
                turns.append(turn)
                learn.append(read_weight(value, turn["role"], here))
        pass_opening(learn, self.notes)
        return turns, learn


def _messages(row: Mapping[str, Any], place: Place) -> list[Any]:
    given = row.get("messages")
    if isinstance(given, list) and given:
        return given
    if given == []:
        what, fix = "messages is empty", "add a user and an assistant message, or remove the row"
        place.faults.append(Fault("data/no-messages", what, fix=fix, **place.at("messages")))
    elif "messages" in row:
        fix = 'write [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
        what = f"messages is {given!r:.40}, and it is a list"
        place.faults.append(Fault("data/messages-not-a-list", what, fix=fix, **place.at("messages")))
    elif not any(fault.code == "data/unknown-key" for fault in place.faults):
        what = f"this row has no messages; it has {', '.join(map(str, row)) or 'nothing'}"
        fix = cure(row, "messages") or "add messages, or remove the row"
        place.faults.append(Fault("data/no-messages", what, fix=fix, **place.at("messages")))
    return []
