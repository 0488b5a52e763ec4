"""Chat rows as ShareGPT has them: `{"conversations": [{"from": "human", "value": "..."}, ...]}`."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any, ClassVar

from tunesmith.errors import Fault
from tunesmith.formats._conversation import check, pass_opening, read_tools, said
from tunesmith.formats._foreign import cure
from tunesmith.formats._turn import KEYS, Place, read_turn, read_weight, unknown_keys
from tunesmith.text.example import Example

HOLDERS = ("conversations", "conversation")
ROW_KEYS = (*HOLDERS, "system", "tools")
TURN_KEYS = ("from", "value", *KEYS)
CALL = "function_call"
ROLES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    CALL: "assistant",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
}


class ShareGpt:
    """ShareGPT's `conversations`: turns with `from` and `value`, or with `role` and `content`; `system` and `tools`."""

    kind: ClassVar[str] = "sharegpt"

    def __init__(self) -> None:
        self.ignored: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """A row that has a list in `conversations` or `conversation`, and no `messages`."""
        return "messages" not in row and any(isinstance(row.get(key), list) for key in HOLDERS)

    def read(self, row: Mapping[str, Any], file: str, line: int) -> Example | list[Fault]:
        """The conversation in a row, or every fault of the row."""
        place = Place(file, line)
        self.ignored.update(unknown_keys(row, ROW_KEYS, place))
        key, given = _conversation(row, place)
        tools = read_tools(row.get("tools"), place)
        turns, learn = self._turns(given, key, place)
        is_whole = bool(given) and len(turns) == len(given)
        if is_whole:
            check(turns, learn, place, key)
        _put_system(row.get("system"), turns, learn, place)
        if place.faults or not is_whole:
            return place.faults
        return Example(tuple(turns), tuple(learn), tuple(tools), file=file, line=line)

    def _turns(self, given: list[Any], key: str, place: Place) -> tuple[list[dict[str, Any]], list[bool]]:
        turns: list[dict[str, Any]] = []
        learn: list[bool] = []
        calls: deque[str] = deque()
        for number, value in enumerate(given):
            here = Place(place.file, place.line, f"{key}[{number}]", place.faults, _names(value))
            message = _message(value, calls, f"{number}", here) if isinstance(value, Mapping) else value
            turn = read_turn(message, here, needs_call=False)
            if turn is not None:
                self.ignored.update(f"{key}[].{one}" for one in unknown_keys(value, TURN_KEYS, here))
                turns.append(turn)
                learn.append(read_weight(value, turn["role"], here))
        pass_opening(learn, self.notes)
        return turns, learn


def _conversation(row: Mapping[str, Any], place: Place) -> tuple[str, list[Any]]:
    key = next((one for one in HOLDERS if row.get(one) is not None), HOLDERS[0])
    given = row.get(key)
    if isinstance(given, list) and given:
        return key, given
    fix = 'write [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]'
    if given == []:
        what = f"{key} is empty"
        place.faults.append(Fault("data/no-messages", what, fix="add turns, or remove the row", **place.at(key)))
    elif given is not None:
        what = f"{key} is {given!r:.40}, and it is a list"
        place.faults.append(Fault("data/messages-not-a-list", what, fix=fix, **place.at(key)))
    elif not place.faults:
        what = f"this row has no {key}; it has {', '.join(map(str, row)) or 'nothing'}"
        fix = cure(row, "sharegpt") or f"add {key}, or remove the row"
        place.faults.append(Fault("data/no-messages", what, fix=fix, **place.at(key)))
    return key, []


def _names(value: Any) -> Mapping[str, str]:
    """What the file calls role and content in this turn."""
    if not isinstance(value, Mapping):
        return {}
    is_openai = "from" not in value and "role" in value
    content = "content" if "value" not in value and (is_openai or "content" in value) else "value"
    return {"role": "role" if is_openai else "from", "content": content}


def _message(value: Mapping[str, Any], calls: deque[str], number: str, place: Place) -> dict[str, Any]:
    """The turn with OpenAI's words. Calls and their answers get ids, which some chat templates ask for."""
    names = _names(value)
    made = {key: one for key, one in value.items() if key not in ("from", "value", "role", "content")}
    given = value.get(names["role"])
    word = given.strip().lower() if isinstance(given, str) else ""
    made["role"] = ROLES.get(word, given)
    content = value.get(names["content"])
    if content is not None:
        made["content"] = content
    if word == CALL:
        made["tool_calls"] = _calls(content, number, place)
        made["content"] = None
        calls.extend(call["id"] for call in made["tool_calls"])
    elif made["role"] == "tool" and calls and "tool_call_id" not in made:
        made["tool_call_id"] = calls.popleft()
    return made


def _calls(content: Any, number: str, place: Place) -> list[dict[str, Any]]:
    try:
        given = json.loads(content) if isinstance(content, str) else content
    except (ValueError, RecursionError):
        given = None
    listed = given if isinstance(given, list) else [given]
    if not all(isinstance(one, Mapping) and isinstance(one.get("name"), str) for one in listed) or not listed:
        fix = 'write {"name": "...", "arguments": {...}} as text'
        what = f"{content!r:.40} is no call of a function"
        place.faults.append(Fault("data/bad-tool-call", what, fix=fix, **place.at("content")))
        listed = [{"name": "unknown", "arguments": {}}]
    functions = ({"name": one["name"], "arguments": one.get("arguments", {})} for one in listed)
    return [
        {"id": f"{number}{at}".rjust(9, "0")[-9:], "type": "function", "function": function}
        for at, function in enumerate(functions)
    ]


def _put_system(given: Any, turns: list[dict[str, Any]], learn: list[bool], place: Place) -> None:
    if given is None or given == "":
        return
    if any(turn["role"] == "system" for turn in turns):
        what, fix = "the row has a system text, and a turn of its conversation is one too", "keep one of the two"
        place.faults.append(Fault("data/two-systems", what, fix=fix, **place.at("system")))
        return
    system = said("system", given, "system", place)
    if system is not None:
        turns.insert(0, system)
        learn.insert(0, False)
