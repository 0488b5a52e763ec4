"""A conversation as a whole: the tools that it may call, and what no single turn can tell."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from tunesmith.errors import Fault
from tunesmith.formats._turn import Place, read_turn


def read_tools(given: Any, place: Place) -> list[Mapping[str, Any]]:
    """The functions that may be called, as chat templates take them; those without their wrapping get it."""
    if isinstance(given, str) and given.strip():
        given = _from_json(given)
    if given is None or given == "":
        return []
    if isinstance(given, list):
        bare = [isinstance(tool, Mapping) and "function" not in tool and "name" in tool for tool in given]
        given = [{"type": "function", "function": tool} if one else tool for one, tool in zip(bare, given, strict=True)]
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


def _from_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def pass_opening(learn: list[bool], notes: Counter[str]) -> None:
    """Takes the loss from an answer that opens a conversation."""
    if learn[:1] == [True]:
        learn[0] = False
        notes["an answer that opens a conversation has nothing before it: read, not learnt"] += any(learn)


def said(role: str, content: Any, key: str, place: Place) -> dict[str, Any] | None:
    """The turn of a row that holds what one side says in a key of its own; faults go to the place."""
    here = Place(place.file, place.line, place.key, place.faults, {"content": key})
    return read_turn({"role": role} if content is None else {"role": role, "content": content}, here)


def check(turns: list[dict[str, Any]], learn: list[bool], place: Place, key: str) -> None:
    """What no single turn can tell; `key` holds the turns."""
    if not any(turn["role"] == "assistant" for turn in turns):
        what, fix = "no assistant turn, so nothing can be learnt", "add the answer, or remove the row"
        place.faults.append(Fault("data/no-assistant", what, fix=fix, **place.at(key)))
    elif not any(learn) and not any(fault.code == "data/bad-weight" for fault in place.faults):
        what, fix = (
            "every assistant turn has weight 0 or nothing before it, so nothing can be learnt",
            "give one weight 1 and a turn before it, or remove the row",
        )
        place.faults.append(Fault("data/no-loss", what, fix=fix, **place.at(key)))
    called: set[str] = set()
    for number, turn in enumerate(turns):
        called.update(str(call["id"]) for call in turn.get("tool_calls", ()) if "id" in call)
        answered = turn.get("tool_call_id")
        if turn["role"] == "tool" and answered is not None and answered not in called:
            what = f"no call before this has the id {answered!r:.40}"
            fix = "give the id of an earlier tool_calls entry"
            at = place.at(f"{key}[{number}].tool_call_id")
            place.faults.append(Fault("data/unknown-tool-call-id", what, fix=fix, **at))
