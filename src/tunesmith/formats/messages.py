"""Chat rows as OpenAI's tuning takes them: `{"messages": [{"role": "user", "content": "..."}, ...]}`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from tunesmith.errors import Fault
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
        tools = _tools(row.get("tools"), place)
        turns, learn = self._turns(given, place)
        if given and len(turns) == len(given):
            _check_conversation(turns, learn, place)
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
        if learn[:1] == [True]:
            learn[0] = False
            self.notes["an answer that opens a conversation has nothing before it: read, not learnt"] += any(learn)
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
        fix = cure(row) or "add messages, or remove the row"
        place.faults.append(Fault("data/no-messages", what, fix=fix, **place.at("messages")))
    return []


def _tools(given: Any, place: Place) -> list[Mapping[str, Any]]:
    if given is None:
        return []
    good = isinstance(given, list) and all(
        isinstance(tool, Mapping)
        and isinstance(tool.get("function"), Mapping)
        and isinstance(tool["function"].get("name"), str)
        for tool in given
    )
    if not good:
        fix = 'write [{"type": "function", "function": {"name": "...", "parameters": {...}}}]'
        place.faults.append(Fault("data/bad-tools", "tools is no list of functions", fix=fix, **place.at("tools")))
        return []
    return list(given)


def _check_conversation(turns: list[dict[str, Any]], learn: list[bool], place: Place) -> None:
    """What no single turn can tell."""
    if not any(turn["role"] == "assistant" for turn in turns):
        what, fix = "no assistant turn, so nothing can be learnt", "add the answer, or remove the row"
        place.faults.append(Fault("data/no-assistant", what, fix=fix, **place.at("messages")))
    elif not any(learn) and not any(fault.code == "data/bad-weight" for fault in place.faults):
        what, fix = (
            "every assistant turn has weight 0 or nothing before it, so nothing can be learnt",
            "give one weight 1 and a turn before it, or remove the row",
        )
        place.faults.append(Fault("data/no-loss", what, fix=fix, **place.at("messages")))
    called: set[str] = set()
    for number, turn in enumerate(turns):
        called.update(str(call["id"]) for call in turn.get("tool_calls", ()) if "id" in call)
        answered = turn.get("tool_call_id")
        if turn["role"] == "tool" and answered is not None and answered not in called:
            what = f"no call before this has the id {answered!r:.40}"
            fix = "give the id of an earlier tool_calls entry"
            at = place.at(f"messages[{number}].tool_call_id")
            place.faults.append(Fault("data/unknown-tool-call-id", what, fix=fix, **at))
