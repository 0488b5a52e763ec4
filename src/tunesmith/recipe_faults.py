"""What pydantic says to programmers, said to the person who wrote the recipe: the value, the line, the cure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, get_args

from pydantic import BaseModel

from tunesmith import rooms
from tunesmith.errors import Fault
from tunesmith.yaml12 import Way

MEMBERS: Mapping[str, str] = {"objective": "objectives", "method": "methods", "export": "exports"}
"""The keys of a recipe that hold members, and their rooms."""

EMPTY = "should not be empty"
PLAIN = {
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "float_parsing": "should be a number",
    "finite_number": "should be a finite number",
    "string_type": "should be text",
    "too_short": EMPTY,
    "string_too_short": EMPTY,
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "model_type": "should hold keys of its own",
    "model_attributes_type": "should hold keys of its own",
    "dict_type": "should hold keys of its own",
}


@dataclass(frozen=True)
class Written:
    """A recipe as it was written: its values, where they stand, and which of them `--set` changed."""

    tree: Mapping[str, Any]
    file: str
    lines: Mapping[Way, int]
    changed: Mapping[Way, str]
    name: str = "the recipe"
    """What it is called where no key names it."""

    def place(self, way: Way) -> dict[str, Any]:
        """Where a value stands: file, line and key; or the `--set` that brought it."""
        for changed, words in self.changed.items():
            if way[: len(changed)] == changed:
                return {"key": dotted(way), "place": f"--set {words}"}
        known = way
        while known and known not in self.lines:
            known = known[:-1]
        return {"file": self.file, "line": self.lines.get(known), "key": dotted(way)}

    def reach(self, loc: Sequence[str | int]) -> Way:
        """The part of pydantic's way that the person wrote; what is left names branches of a type."""
        node: Any = self.tree
        way: list[str | int] = []
        for step in loc:
            inside = isinstance(node, Mapping) and step in node
            if inside or (isinstance(node, list) and isinstance(step, int) and step < len(node)):
                node = node[step]
                way.append(step)
        return tuple(way)


def faults_of(errors: Sequence[Any], model: type[BaseModel], written: Written) -> list[Fault]:
    """One fault for each value that is wrong, in the order of the file."""
    groups: dict[Way, list[Any]] = {}
    for error in errors:
        way = written.reach(error["loc"])
        if error["type"] == "missing":
            way = (*way, error["loc"][-1])
        groups.setdefault(way, []).append(error)
    for way in [way for way in groups if any(other[: len(way)] == way and other != way for other in groups)]:
        if all(error["type"] in PLAIN for error in groups[way]):
            del groups[way]  # the list is right and an entry is not; that it is no single word either says nothing
    found = [_fault(way, group, model, written) for way, group in groups.items()]
    return sorted(found, key=lambda fault: fault.line or 0)


def dotted(way: Sequence[str | int]) -> str:
    """The way as it is written in words: `export[1].types`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in way)
    return text.removeprefix(".")


def _fault(way: Way, group: Sequence[Any], model: type[BaseModel], written: Written) -> Fault:
    error = group[0]
    key, place = dotted(way), written.place(way)
    if error["type"] == "extra_forbidden":
        holder = dotted(way[:-1]) or written.name
        fix = rooms.did_you_mean(str(way[-1]), known_keys(way[:-1], model, written.tree))
        return Fault("recipe/unknown-key", f"{holder} has no key {way[-1]!r}", fix, **place)
    if error["type"] == "missing":
        under = f" under {dotted(way[:-1])}" if way[:-1] else ""
        return Fault("recipe/missing-key", f"{key!r} is needed", f"add {way[-1]}: ...{under}", **place)
    if error["type"] == "unknown_member":
        return Fault("recipe/unknown-member", error["msg"], error["ctx"]["fix"], **place)
    if error["type"] == "conflict":
        return Fault("recipe/conflict", error["msg"], error["ctx"]["fix"], **place)
    said = list(dict.fromkeys(_words(one) for one in group))
    ways = [one.removeprefix("should be ") for one in said if one.startswith("should be ")]
    what = "should be " + " or ".join(ways) if len(ways) == len(said) else "; ".join(said)
    what = EMPTY if EMPTY in said else what
    what = f"{what}, and this is {_seen(error['input'])}"
    return Fault("recipe/bad-value", what, f"change the value of {key}", **place)


def _words(error: Any) -> str:
    said: str = PLAIN.get(error["type"]) or error["msg"]
    inner = error.get("ctx", {}).get("error")
    said = str(inner) if inner is not None else said
    said = said.removeprefix("Input ").removeprefix("Value error, ")
    return said[:1].lower() + said[1:]


def _seen(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = f"{value}, a date to YAML unless quoted" if isinstance(value, date) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def known_keys(way: Way, model: type[BaseModel], tree: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys that may stand there."""
    if not way:
        return tuple(model.model_fields)
    head = str(way[0])
    if head in MEMBERS:
        value: Any = tree
        for step in way:
            value = value[step]
        kind = value.get("kind") if isinstance(value, Mapping) else value
        return ("kind", *rooms.find(MEMBERS[head], str(kind)).model_fields)
    inner = model.model_fields[head].annotation
    if len(way) > 1 and isinstance(inner, type) and issubclass(inner, BaseModel):
        return tuple(next(_parts(inner.model_fields[str(way[1])].annotation)).model_fields)
    return tuple(inner.model_fields) if isinstance(inner, type) and issubclass(inner, BaseModel) else ()


def _parts(annotation: Any) -> Iterator[type[BaseModel]]:
    """The parts of a recipe that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for one in get_args(annotation):
        yield from _parts(one)
