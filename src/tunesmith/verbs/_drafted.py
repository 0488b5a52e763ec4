"""A recipe for a person's own data: every value filled in from the data, the base and this machine, with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith import rooms
from tunesmith.errors import DataError, Fault, PlanError
from tunesmith.machine import Chosen
from tunesmith.recipe import Recipe
from tunesmith.text.example import Example
from tunesmith.verbs._ready import Ready, make_ready

HELD_OUT = 0.1
FEWEST = 10  # rows of which some can be held out
EXPORTS = ("gguf", "ollama", "web")


@dataclass(frozen=True)
class Drafted:
    """What a recipe for the data says: the rows as they were found, and the plan's values by name."""

    train: str
    test: str | float | None
    format: str
    objective: str
    method: Mapping[str, Any]
    exports: tuple[str, ...]
    left_out: Mapping[str, str]
    """Exports that this base or machine does not allow, and why."""
    values: Mapping[str, Chosen]
    n_rows: int
    n_held_out: int
    n_system_words: int
    """Of the system prompt that all rows begin with; 0 where there is none."""
    about_base: str


def draft(base: str, data: str) -> Drafted:
    """Everything a recipe for this data and base needs.

    Raises:
        DataError: what is wrong with the rows, all at once.
        PlanError: every other reason why they cannot be learnt from here.
    """
    from tunesmith.formats._reading import read

    reading = read(data).or_raise()
    is_chat = reading.examples[0].is_chat
    objective = "sft" if is_chat else "uft"
    test = _test_beside(data) or (HELD_OUT if len(reading.examples) >= FEWEST else None)
    tree: dict[str, Any] = {
        "base": base,
        "data": {"train": data, "test": test},
        "objective": objective,
        "method": "auto",
        "run": {"epochs": "auto"},
    }
    ready = make_ready(Recipe.model_validate(tree), Path("runs"))
    if ready.refusals:
        of_data = all(fault.code.startswith("data/") for fault in ready.refusals)
        raise (DataError if of_data else PlanError)(ready.refusals)
    assert ready.facts is not None
    left_out = _left_out(ready)
    return Drafted(
        train=data,
        test=test,
        format=reading.format,
        objective=objective,
        method={"kind": type(ready.method).kind, **ready.method.model_dump(mode="json", exclude_defaults=True)},
        exports=tuple(one for one in EXPORTS if one not in left_out),
        left_out=left_out,
        values={value.name: value for value in ready.values},
        n_rows=len(reading.examples),
        n_held_out=len(ready.held_out),
        n_system_words=_n_system_words(reading.examples),
        about_base=f"{ready.facts.n_parameters / 1e6:,.0f} million weights, attends to {ready.facts.context:,} tokens",
    )


def _n_system_words(examples: Sequence[Example]) -> int:
    said = {tuple(str(one.get("content")) for one in example.messages[: example.n_system]) for example in examples}
    return len(" ".join(said.pop()).split()) if len(said) == 1 else 0


def _test_beside(data: str) -> str | None:
    """A file of test rows that stands beside the data: x-test.jsonl for x-train.jsonl or x.jsonl, or test.jsonl."""
    path = Path(data)
    if not path.is_file():
        return None
    stem = path.stem.removesuffix("-train").removesuffix("_train")
    ending = "".join(path.suffixes)
    names = [f"{stem}-test{ending}", f"{stem}_test{ending}", f"test{ending}"]
    found = (path.with_name(name) for name in names if name != path.name)
    return next((str(one) for one in found if one.is_file()), None)


def _left_out(ready: Ready) -> dict[str, str]:
    """Exports that are refused, and those that need one of these."""
    assert ready.facts is not None
    found: dict[str, str] = {}
    for name in EXPORTS:
        export: Any = rooms.find("exports", name)()
        faults: Sequence[Fault] = export.refuse(ready.facts, ready.machine)
        needed = next((need for need in export.needs if need in found), "")
        if faults:
            found[name] = f"{faults[0].what}; {faults[0].fix}"
        elif needed:
            found[name] = f"it is made from {needed}"
    return found
