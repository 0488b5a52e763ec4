"""One turn of a conversation: what OpenAI's tuning rows may hold, and what chat templates want of it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunesmith.errors import Fault
from tunesmith.rooms import did_you_mean

ROLES = ("system", "developer", "user", "assistant", "tool")
OTHER_NAMES = {
    "human": "user",
    "customer": "user",
    "prompter": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "chatbot": "assistant",
    "function": "tool",
}
THOUGHTS = ("reasoning", "thinking", "reasoning_content")  # names of one thing; the last is the templates', and wins
KEYS = ("role", "content", "name", "tool_calls", "tool_call_id", "weight", *THOUGHTS)
OLD = ("function_call", "functions")


@dataclass
class Place:
    """Where in a file we are; gathers the faults found there."""

    file: str
    line: int
    key: str = ""
    faults: list[Fault] = field(default_factory=list)
    names: Mapping[str, str] = field(default_factory=dict)
    """What the file calls the keys that a message has: `{"role": "from"}`."""

    def named(self, key: str) -> str:
        """What the file calls a key."""
        return self.names.get(key, key)

    def at(self, key: str) -> dict[str, Any]:
        """The place of a key below this one, as a fault takes it."""
        key = self.named(key)
        joined = key if not self.key or key.startswith("[") else f"{self.key}.{key}" if key else self.key
        return {"file": self.file, "line": self.line, "key": f"{self.key}{key}" if key.startswith("[") else joined}

    def below(self, key: str) -> Place:
        """A place further in, with the same list of faults."""
        return Place(self.file, self.line, self.at(key)["key"], self.faults)


def unknown_keys(value: Mapping[str, Any], known: tuple[str, ...], place: Place) -> list[str]:
    """The keys that are passed over. One that is nearly a known key is a fault: it was meant to do something."""
    passed = []
    for key in value:
        if key in known or value[key] is None:
            continue
        near = difflib.get_close_matches(key, [name for name in known if name not in value], n=1, cutoff=0.75)
        if key in OLD:
            what = f"{key} is the old way to call tools"
            fix = "use tools on the row, tool_calls on the assistant and role tool for the result"
            place.faults.append(Fault("data/old-function-call", what, fix=fix, **place.at(key)))
        elif near:
            fix = f"did you mean {near[0]!r}? known here: {', '.join(known)}"
            place.faults.append(Fault("data/unknown-key", f"there is no key {key!r}", fix=fix, **place.at(key)))
        else:
            passed.append(key)
    return passed


def read_turn(value: Any, place: Place, *, needs_call: bool = True) -> dict[str, Any] | None:
    """The turn as chat templates take it; None when its role is not known. Faults go to the place.

    `needs_call`: a tool's answer has to name the call that it answers.
    """
    if not isinstance(value, Mapping):
        fix = 'write {"role": "user", "content": "..."}'
        place.faults.append(Fault("data/not-a-message", f"{value!r:.40} is no message", fix=fix, **place.at("")))
        return None
    role = _role(value, place)
    if role is None:
        return None
    turn: dict[str, Any] = {"role": "system" if role == "developer" else role}
    calls = _tool_calls(value, role, place)
    turn["content"] = _content(value, role, bool(calls), place)
    if calls:
        turn["tool_calls"] = calls
    if len(value) > 2:  # most turns have role and content alone
        for key in THOUGHTS:
            _text_key(value, key, turn, place, "reasoning_content")
        for key in ("name", "tool_call_id"):
            _text_key(value, key, turn, place)
    if needs_call and role == "tool" and value.get("tool_call_id") is None:
        fix = "add the id of the call that it answers"
        place.faults.append(
            Fault("data/no-tool-call-id", "a tool's answer has no tool_call_id", fix=fix, **place.at(""))
        )
    return turn


def read_weight(value: Mapping[str, Any], role: str, place: Place) -> bool:
    """Whether the turn may carry loss."""
    weight = value.get("weight")
    if weight is None:
        return role == "assistant"
    if isinstance(weight, bool) or not isinstance(weight, int | float) or weight not in (0, 1):
        what = f"weight is {weight!r:.40}, and it can be 0 or 1"
        place.faults.append(Fault("data/bad-weight", what, fix="use 0 or 1", **place.at("weight")))
    elif weight and role != "assistant":
        what = f"weight 1 on a turn of role {role}: only assistant turns are learnt"
        place.faults.append(Fault("data/bad-weight", what, fix="remove the weight", **place.at("weight")))
    return role == "assistant" and weight != 0


def _role(value: Mapping[str, Any], place: Place) -> str | None:
    role = value.get("role")
    if role is None:
        fix = f"add {place.named('role')}: one of {', '.join(ROLES)}"
        place.faults.append(Fault("data/no-role", "a message has no role", fix=fix, **place.at("role")))
        return None
    if role in ROLES if isinstance(role, str) else False:
        return str(role)
    same = OTHER_NAMES.get(role.strip().lower()) if isinstance(role, str) else None
    cure = did_you_mean(str(role).strip().lower(), ROLES)
    fix = f"did you mean {same!r}? known here: {', '.join(ROLES)}" if same else cure
    place.faults.append(Fault("data/unknown-role", f"there is no role {role!r:.40}", fix=fix, **place.at("role")))
    return None


def _content(value: Mapping[str, Any], role: str, has_calls: bool, place: Place) -> str:
    content = value.get("content")
    n_faults = len(place.faults)
    text = _parts(content, place.below("content")) if isinstance(content, list) else content
    if text is None:
        text = ""
    if not isinstance(text, str):
        what = f"{place.named('content')} is {content!r:.40}, and it can be a text or a list of text parts"
        place.faults.append(Fault("data/bad-content", what, fix="write it as a text", **place.at("content")))
        return ""
    may_be_empty = has_calls or role == "tool"
    if not text.strip() and not may_be_empty and len(place.faults) == n_faults:
        what = f"{role} says nothing: {place.named('content')} is {'missing' if 'content' not in value else 'empty'}"
        fix = "fill it, or remove the row" if role != "system" else "fill it, or remove this message"
        place.faults.append(Fault("data/empty-content", what, fix=fix, **place.at("content")))
    if "\0" in text:
        fix = "remove it, or the row"
        what = "the character NUL is in it, at which many programs end a text"
        place.faults.append(Fault("data/nul-character", what, fix=fix, **place.at("content")))
    return text


def _parts(parts: list[Any], place: Place) -> str:
    texts = []
    for number, part in enumerate(parts):
        if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
            continue
        kind = part.get("type") if isinstance(part, Mapping) else part
        what = f"a part of type {kind!r:.40}: only text can be learnt from"
        fix = 'keep parts of {"type": "text", "text": "..."}'
        place.faults.append(Fault("data/not-text", what, fix=fix, **place.at(f"[{number}]")))
    return "".join(texts)


def _text_key(value: Mapping[str, Any], key: str, turn: dict[str, Any], place: Place, name: str = "") -> None:
    given = value.get(key)
    if isinstance(given, str):
        turn[name or key] = given
    elif given is not None:
        place.faults.append(Fault("data/not-a-text", f"{key} is {given!r:.40}", fix="write a text", **place.at(key)))


def _tool_calls(value: Mapping[str, Any], role: str, place: Place) -> list[dict[str, Any]]:
    calls = value.get("tool_calls")
    if calls is None or calls == []:
        return []
    here = place.below("tool_calls")
    if role != "assistant" or not isinstance(calls, list):
        what = f"tool_calls on role {role}" if role != "assistant" else "tool_calls is not a list"
        fix = "give the assistant a list of calls"
        place.faults.append(Fault("data/bad-tool-call", what, fix=fix, **here.at("")))
        return []
    read = (_tool_call(call, here.below(f"[{number}]")) for number, call in enumerate(calls))
    return [call for call in read if call is not None]


def _tool_call(call: Any, place: Place) -> dict[str, Any] | None:
    function = call.get("function") if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping) or not isinstance(name, str) or not name:
        fix = 'write {"id": "...", "type": "function", "function": {"name": "...", "arguments": "{}"}}'
        place.faults.append(Fault("data/bad-tool-call", "this is no call of a function", fix=fix, **place.at("")))
        return None
    arguments = _arguments(function.get("arguments", {}), place)
    made: dict[str, Any] = {"type": "function", "function": {"name": name, "arguments": arguments}}
    _text_key(call, "id", made, place)
    return made


def _arguments(given: Any, place: Place) -> Mapping[str, Any]:
    """OpenAI writes a JSON text; chat templates want what it means."""
    try:
        value = json.loads(given, parse_constant=_constant) if isinstance(given, str) else given
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair would break the tokenizer later
    except (ValueError, RecursionError) as error:
        what = f"the arguments are not JSON: {error}"
        fix = 'write a JSON object as text, such as "{\\"city\\": \\"Bern\\"}"'
        place.faults.append(Fault("data/bad-tool-arguments", what, fix=fix, **place.at("function.arguments")))
        return {}
    if not isinstance(value, Mapping):
        what = f"the arguments are {value!r:.40}, and a call takes an object"
        fix = 'write a JSON object as text, such as "{}"'
        place.faults.append(Fault("data/bad-tool-arguments", what, fix=fix, **place.at("function.arguments")))
        return {}
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
