"""JSON as an application reads it, and its fields as a bag of paths with values."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Any

FENCED = re.compile(r"\A```(?:json)?[ \t]*\r?\n(.*?)\r?\n?```\Z", re.DOTALL | re.IGNORECASE)

DEEPEST = 100


class NotJson:
    """What `read` gives of a text that is no JSON; `None` is the JSON value `null`."""


def read(text: str) -> Any:
    """The value of a text that is JSON as a whole, a code fence around it taken off; else `NotJson`.

    NaN and Infinity, which Python's reader takes, are no JSON.
    """
    text = text.strip()
    fenced = FENCED.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return NotJson
    return NotJson if _is_deep(value) else value


def _is_deep(value: Any) -> bool:
    """Whether it nests deeper than anybody means: a model in a loop may write a thousand brackets."""
    level = [value]
    for _ in range(DEEPEST):
        if not level:
            return False
        level = [
            one
            for above in level
            if isinstance(above, dict | list)
            for one in (above.values() if isinstance(above, dict) else above)
        ]
    return bool(level)


def _refuse(word: str) -> None:
    raise ValueError(word)


def fields(value: Any) -> Counter[Hashable]:
    """Each leaf as (path, type, value), counted. The order of a list plays no part: its places are all called `[]`.

    An empty object or list is a leaf, so that no value is without fields. A text, a number and a truth value are never
    equal.
    """
    return Counter(_leaves(value, ()))


def same(one: Any, other: Any) -> bool:
    """Whether both are the same value: the order of keys plays no part, that of lists does; 1 is 1.0, but not true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return _leaf(one) == _leaf(other)


def _leaves(value: Any, path: tuple[str | None, ...]) -> Iterator[Hashable]:
    if isinstance(value, dict) and value:
        for key, one in value.items():
            yield from _leaves(one, (*path, key))
    elif isinstance(value, list) and value:
        for one in value:
            yield from _leaves(one, (*path, None))  # None is no key of an object
    else:
        yield path, _leaf(value)


def _leaf(value: Any) -> tuple[str, Hashable]:
    """A value with its type, so that true is not 1; of an object or list, which is met by another type, its length."""
    if isinstance(value, dict | list):
        return type(value).__name__, len(value)
    kind = {bool: "truth", str: "text", type(None): "null"}.get(type(value), "number")
    return kind, value
