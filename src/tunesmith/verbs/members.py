from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, get_args, get_origin

from tunesmith import rooms
from tunesmith.errors import Fault, RecipeError
from tunesmith.methods._contract import Delivery
from tunesmith.recipe import Part

QUESTIONS: Mapping[str, str] = {
    "sources": "Where does the base model come from?",
    "formats": "How is a row read?",
    "risks": "What in the data may hurt, though every row can be read?",
    "objectives": "Which tokens carry loss?",
    "methods": "Which weights move, and how do they come to rest?",
    "exports": "What files does a runtime want?",
    "runtimes": "How do I ask those files a question?",
    "checks": "Is it true that every runtime answers the same?",
    "metrics": "How good is an answer?",
}


@dataclass(frozen=True)
class Option:
    """A key of a member in the recipe."""

    name: str
    type: str
    default: str
    text: str


@dataclass(frozen=True)
class Member:
    """A member of a room, as a person sees it."""

    room: str
    name: str
    summary: str
    text: str
    options: tuple[Option, ...]
    delivers: Mapping[str, Delivery] = field(default_factory=dict)
    """Of a method: where its results can go with most bases, and with its own defaults; `plan` says it of one base."""

    def as_json(self) -> dict[str, Any]:
        """The form of `list --json`."""
        tree = {"name": self.name, "summary": self.summary, "options": [asdict(one) for one in self.options]}
        delivers = {name: asdict(one) for name, one in self.delivers.items()}
        return {**tree, "delivers": delivers} if delivers else tree


def list_members(room: str | None = None) -> dict[str, tuple[Member, ...]]:
    """The members of one room, or of all, in the order of `rooms.py`.

    Raises:
        RecipeError: `recipe/unknown-room`.
    """
    if room is not None and room not in rooms.ROOMS:
        fix = rooms.did_you_mean(room, rooms.ROOMS)
        raise RecipeError(Fault("recipe/unknown-room", f"there is no room {room!r}", fix=fix))
    wanted = (room,) if room is not None else tuple(rooms.ROOMS)
    return {one: tuple(_member(one, name) for name in rooms.names(one)) for one in wanted}


def show(name: str) -> tuple[Member, ...]:
    """The members of this name: several where rooms share one, as `ollama`; `runtimes/ollama` names one alone.

    Raises:
        RecipeError: `recipe/unknown-member`.
    """
    room, _, last = name.rpartition("/")
    found = tuple(_member(one, last) for one, table in rooms.ROOMS.items() if last in table and room in ("", one))
    if not found:
        known = tuple(dict.fromkeys(word for table in rooms.ROOMS.values() for word in table))
        fix = rooms.did_you_mean(last, known)
        raise RecipeError(Fault("recipe/unknown-member", f"no room has a member {name!r}", fix=fix))
    return found


def _member(room: str, name: str) -> Member:
    found = rooms.find(room, name)
    doc = inspect.cleandoc(found.__doc__ or "")
    summary, _, _ = doc.partition("\n\n")
    summary = getattr(found, "asks", None) or " ".join(summary.split())
    delivers = found().delivers(None) if room == "methods" else {}
    return Member(room, name, summary, doc, _options(found), delivers)


def _options(found: Any) -> tuple[Option, ...]:
    if not (isinstance(found, type) and issubclass(found, Part)):
        return ()
    options = []
    for name, told in found.model_fields.items():
        default = "needed" if told.is_required() else _shown(told.get_default(call_default_factory=True))
        options.append(
            Option(name, _type(told.annotation, told.metadata), default, " ".join((told.description or "").split()))
        )
    return tuple(options)


def _shown(value: Any) -> str:
    """A value as the recipe writes it."""
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, Part):
        return value.kind or "{}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(one) for one in value) + "]"
    return json.dumps(value, default=str)


def _type(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """A type in the words of the recipe: `integer > 0`, `auto or number`, `list of text`."""
    parts = get_args(annotation)
    origin = get_origin(annotation)
    if annotation is None or annotation is type(None):
        return "nothing"
    if origin is Annotated:
        return _type(parts[0], parts[1:])
    if str(origin) == "typing.Literal":
        return " or ".join(_shown(part) for part in parts)
    if origin in (tuple, list):
        return f"list of {_type(parts[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"names with {_type(parts[1])}"
    if parts:  # a union
        return " or ".join(dict.fromkeys(_type(part) for part in parts))
    names = {bool: "true or false", int: "integer", float: "number", str: "text"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation))) + _limits(metadata)


def _limits(metadata: Sequence[Any]) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    found = [
        f" {sign} {getattr(one, key):g}"
        for one in metadata
        for key, sign in signs.items()
        if getattr(one, key, None) is not None
    ]
    return re.sub(r" +", " ", " and".join(found))
