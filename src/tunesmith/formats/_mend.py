"""What can be mended in a chat row without a guess: a table from a fault's code to what is done about it."""

from __future__ import annotations

import copy
import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.errors import Fault
from tunesmith.formats._contract import Format
from tunesmith.formats._turn import KEYS, OTHER_NAMES, ROLES
from tunesmith.text.example import Example

ROUNDS = 20  # a mend may uncover the next fault
EMPTY = "data/empty-content"
SAY_NOTHING = ("role", "content", "name", "weight", "tool_calls")  # the keys of a turn without words
ROW_KEYS = ("messages", "tools", "parallel_tool_calls")
NEAR = 0.75
ROLE_NAMES: Mapping[str, str] = {**OTHER_NAMES, **{role: role for role in ROLES}}
_TURN = re.compile(r"messages\[(\d+)\]")
_WEIGHTS: Mapping[object, int] = {"0": 0, "1": 1}


@dataclass(frozen=True)
class Mended:
    """A row without fault, the example in it, and what was done to it."""

    value: Mapping[str, Any]
    example: Example
    done: tuple[str, ...]


def mended(value: Mapping[str, Any], reader: Format, file: str, line: int) -> Mended | None:
    """The row, mended until the reader finds no fault; None where that takes a guess."""
    row: dict[str, Any] = copy.deepcopy(dict(value))
    done: list[str] = []
    for _ in range(ROUNDS):
        found = reader.read(row, file, line)
        if isinstance(found, Example):
            return Mended(row, found, tuple(dict.fromkeys(done)))
        said = _mend_some(row, found)
        if not said:
            return None
        done += said
    return None


def _mend_some(row: dict[str, Any], faults: Sequence[Fault]) -> list[str]:
    """What could be mended. A turn is left out only when nothing else is wrong: its words may stand at another key."""
    if any(fault.code not in MENDS for fault in faults):
        return []
    plain = [fault for fault in faults if fault.code != EMPTY]
    done = [MENDS[fault.code](row, fault) for fault in plain]
    if not any(done):
        done = [MENDS[fault.code](row, fault) for fault in faults[:1] if not plain]
    return [said for said in done if said]


def _turn(row: Mapping[str, Any], fault: Fault) -> dict[str, Any] | None:
    """The message in which a fault is."""
    found, turns = _TURN.match(fault.key), row.get("messages")
    turn = turns[int(found[1])] if found and isinstance(turns, list) and int(found[1]) < len(turns) else None
    return turn if isinstance(turn, dict) else None


def _rename(where: dict[str, Any], old: str, new: str) -> None:
    """Another name for a key, at the same place among the others."""
    pairs = [(new if key == old else key, inner) for key, inner in where.items()]
    where.clear()
    where.update(pairs)


def _role(row: dict[str, Any], fault: Fault) -> str:
    turn = _turn(row, fault)
    role = turn.get("role") if turn else None
    if turn is None or not isinstance(role, str) or role in ROLES:
        return ""
    bare = role.strip().lower()
    if bare == "function":
        return _old_calls(row, fault)
    near = [bare] if bare in ROLE_NAMES else difflib.get_close_matches(bare, ROLE_NAMES, n=3, cutoff=0.8)
    meanings = {ROLE_NAMES[one] for one in near}
    if len(meanings) != 1:
        return ""
    (meant,) = meanings
    turn["role"] = meant
    return f"role {role!r:.40} written as {meant!r}"


def _no_role(row: dict[str, Any], fault: Fault) -> str:
    turn = _turn(row, fault)
    if turn is None or "role" in turn or not isinstance(turn.get("from"), str):
        return ""
    _rename(turn, "from", "role")
    if "content" not in turn and "value" in turn:
        _rename(turn, "value", "content")
    return "keys 'from' and 'value' written as 'role' and 'content'"


def _key(row: dict[str, Any], fault: Fault) -> str:
    turn = _turn(row, fault)
    where, known = (row, ROW_KEYS) if turn is None else (turn, KEYS)
    key = fault.key.rpartition(".")[2]
    near = difflib.get_close_matches(key, [name for name in known if name not in where], n=2, cutoff=NEAR)
    if key not in where or len(near) != 1:
        return ""
    _rename(where, key, near[0])
    return f"key {key!r:.40} written as {near[0]!r}"


def _weight(row: dict[str, Any], fault: Fault) -> str:
    turn = _turn(row, fault)
    if turn is None:
        return ""
    weight = turn.get("weight")
    if turn.get("role") != "assistant":
        del turn["weight"]
        return "a weight left out where nothing is learnt"
    meant = int(weight) if isinstance(weight, bool) else _WEIGHTS.get(weight) if isinstance(weight, str) else None
    if meant is None:
        return ""
    turn["weight"] = meant
    return f"weight {json.dumps(weight)} written as {meant}"


def _empty(row: dict[str, Any], fault: Fault) -> str:
    """A system message without words says nothing; neither do turns at the end that have none."""
    turns, turn = row["messages"], _turn(row, fault)
    if turn is None:
        return ""
    if turn.get("role") in ("system", "developer"):
        turns[:] = [one for one in turns if one is not turn or not _says_nothing(one)]
        return "" if any(one is turn for one in turns) else "an empty system message left out"
    if any(not _says_nothing(one) for one in turns[next(at for at, one in enumerate(turns) if one is turn) :]):
        return ""
    while turns and _says_nothing(turns[-1]):
        turns.pop()
    return "empty turns at the end left out"


def _says_nothing(turn: Any) -> bool:
    if not isinstance(turn, Mapping) or turn.get("role") == "tool" or turn.get("tool_calls"):
        return False
    if any(key not in SAY_NOTHING and inner is not None for key, inner in turn.items()):
        return False
    content = turn.get("content")
    return content is None or (isinstance(content, str) and not content.strip())


def _content(row: dict[str, Any], fault: Fault) -> str:
    turn = _turn(row, fault)
    content = turn.get("content") if turn else None
    if turn is None or isinstance(content, bool) or not isinstance(content, int):
        return ""
    turn["content"] = str(content)
    return "a whole number as content written as a text"


def _conversations(row: dict[str, Any], fault: Fault) -> str:
    """A row of ShareGPT: its turns stand at another key."""
    if "system" in row or not isinstance(row.get("conversations"), list):
        return ""
    _rename(row, "conversations", "messages")
    return "key 'conversations' written as 'messages'"


def _messages(row: dict[str, Any], fault: Fault) -> str:
    """A list that was written as text."""
    return "messages, a JSON text, written as a list" if _from_text(row, "messages") else ""


def _from_text(row: dict[str, Any], key: str) -> bool:
    text = row.get(key)
    try:
        made = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return False
    if not isinstance(made, list) or not made or not all(isinstance(one, dict) for one in made):
        return False
    row[key] = made
    return True


def _is_function(tool: Any) -> bool:
    return isinstance(tool, Mapping) and isinstance(tool.get("name"), str) and "function" not in tool


def _call_id(row: dict[str, Any], fault: Fault) -> str:
    """The id of the only call that a tool's answer can belong to: that of the turn right before it."""
    turns, turn = row["messages"], _turn(row, fault)
    at = next((at for at, one in enumerate(turns) if one is turn), 0)
    calls = turns[at - 1].get("tool_calls") if turn and at and isinstance(turns[at - 1], Mapping) else None
    one = calls[0] if isinstance(calls, list) and len(calls) == 1 else None
    if turn is None or not isinstance(one, Mapping) or not isinstance(one.get("id"), str):
        return ""
    turn["tool_call_id"] = one["id"]
    return "the id of the call added to a tool's answer"


def _old_calls(row: dict[str, Any], fault: Fault) -> str:
    """All of a row's `functions`, `function_call` and role `function`, where each answer follows its call."""
    turns = row.get("messages")
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return ""
    functions = row.get("functions")
    if functions is not None and ("tools" in row or not _are_functions(functions)):
        return ""
    if row.get("function_call", "auto") != "auto" or not _call_pairs_are_clear(turns):
        return ""
    row.pop("function_call", None)
    if functions is not None:
        _rename(row, "functions", "tools")
        row["tools"] = [{"type": "function", "function": one} for one in functions]
    name = ""
    for number, turn in enumerate(turns):
        if turn.get("function_call") is not None:
            name = f"call{number:05}"  # nine letters and digits, as some templates want it
            _rename(turn, "function_call", "tool_calls")
            turn["tool_calls"] = [{"id": name, "type": "function", "function": turn["tool_calls"]}]
            turn.setdefault("content", None)
        elif turn.get("role") == "function":
            turn.update(role="tool", tool_call_id=name)
        turn.pop("function_call", None)
    return "functions and function_call written as tools and tool_calls"


def _are_functions(value: Any) -> bool:
    return isinstance(value, list) and all(_is_function(one) for one in value)


def _call_pairs_are_clear(turns: Sequence[dict[str, Any]]) -> bool:
    for number, turn in enumerate(turns):
        call = turn.get("function_call")
        if call is not None and (turn.get("role") != "assistant" or "tool_calls" in turn or not _is_function(call)):
            return False
        if turn.get("role") == "function":
            asked = turns[number - 1].get("function_call") if number else None
            if not isinstance(asked, Mapping) or turn.get("name", asked.get("name")) != asked.get("name"):
                return False
    return True


MENDS: Mapping[str, Callable[[dict[str, Any], Fault], str]] = {
    "data/unknown-role": _role,
    "data/no-role": _no_role,
    "data/unknown-key": _key,
    "data/bad-weight": _weight,
    EMPTY: _empty,
    "data/bad-content": _content,
    "data/no-messages": _conversations,
    "data/messages-not-a-list": _messages,
    "data/no-tool-call-id": _call_id,
    "data/old-function-call": _old_calls,
}


def as_row(example: Example) -> dict[str, Any]:
    """An example as a row of messages, or of text, whatever format it was read from."""
    if not example.is_chat:
        return {"text": example.text}
    pairs = zip(example.messages, example.learn, strict=True)
    turns = [_as_message(turn, learns) for turn, learns in pairs]
    return {"messages": turns, **({"tools": list(example.tools)} if example.tools else {})}


def _as_message(turn: Mapping[str, Any], learns: bool) -> dict[str, Any]:
    made = dict(turn)
    if "tool_calls" in made:
        made["tool_calls"] = [_as_call(call) for call in made["tool_calls"]]
    if turn["role"] == "assistant" and not learns:
        made["weight"] = 0
    return made


def _as_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {**function, "arguments": arguments}}
