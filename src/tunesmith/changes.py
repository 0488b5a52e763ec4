"""`--set KEY=VALUE`: changes made to the tree of a recipe before it is checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith import yaml12
from tunesmith.errors import Fault, RecipeError
from tunesmith.yaml12 import Way

EXAMPLE = "for example: --set method.rank=8"


def make(tree: dict[str, Any], changes: Sequence[str], kinds: Mapping[str, str]) -> dict[Way, str]:
    """Change the tree in place; gives the way of each changed value with the words that changed it.

    A step of a key is a name, or the place in a list (from 0): `export.0.kind=web`. `kinds` names the member that a key
    holds when the recipe names none, so that `method.rank=8` works without a method in it.

    Raises:
        RecipeError: `recipe/bad-set`, with every change that cannot be made.
    """
    made: dict[Way, str] = {}
    faults = []
    for change in changes:
        try:
            made[_change(tree, change, kinds)] = change
        except ValueError as error:
            faults.append(Fault("recipe/bad-set", str(error), EXAMPLE, place=f"--set {change}"))
    if faults:
        raise RecipeError(faults)
    return made


def _change(tree: dict[str, Any], change: str, kinds: Mapping[str, str]) -> Way:
    key, equals, text = change.partition("=")
    if not equals or not all(key.split(".")):
        raise ValueError(f"{change!r} is not KEY=VALUE")
    *before, last = key.split(".")
    way: list[str | int] = []
    node: Any = tree
    for step in before:
        at = _step(node, step, key)
        node = _inner(node, at, kinds.get(step, "") if node is tree else "")
        way.append(at)
    at = _step(node, last, key)
    node[at] = yaml12.value_of(text)
    return (*way, at)


def _step(node: Any, step: str, key: str) -> str | int:
    """The step as a key, or as an index that the list has."""
    if isinstance(node, dict):
        return step
    if not isinstance(node, list):
        raise ValueError(f"{key!r}: what stands before {step!r} holds no keys")
    if not step.isdecimal() or int(step) >= len(node):
        raise ValueError(f"{key!r}: {step!r} is no place in a list of {len(node)} (counted from 0)")
    return int(step)


def _inner(node: Any, at: Any, kind: str) -> Any:
    """What stands there, made ready to take keys: a member's name becomes its mapping."""
    inner = node[at] if isinstance(node, list) else node.get(at)
    if inner is None:
        inner = {"kind": kind} if kind else {}
    elif isinstance(inner, str) and (kind or isinstance(node, list)):
        inner = {"kind": inner}
    node[at] = inner
    return inner
