"""YAML 1.2 as plain values, with the line of every key: `1e-5` is a number, `no` a word, a doubled key refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunesmith.errors import Fault, RecipeError

Way = tuple[str | int, ...]
"""The keys and indices that lead to a value: ("data", "train", 0)."""


def parse(text: str, file: str) -> tuple[dict[str, Any], dict[Way, int]]:
    """The values of a YAML text, and the line (from 1) of each key in it.

    Raises:
        RecipeError: `recipe/not-yaml`, `recipe/doubled-key`, `recipe/yaml-version` or `recipe/not-a-mapping`.
    """
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("%YAML") and line.split()[1:] != ["1.2"]:
            what, fix = f"{line!r} brings other rules, where `no` is not a word", "delete this line"
            raise RecipeError(Fault("recipe/yaml-version", what, fix, file=file, line=number))
    try:
        tree = _load(text)
        lines = dict(_lines(tree, ()))
        plain = _plain(tree)
    except DuplicateKeyError as error:
        key = _first_line(error.problem).partition('"')[2].partition('"')[0]
        what = f"the key {key!r} is written twice"
        raise RecipeError(
            Fault("recipe/doubled-key", what, "keep one of the two", file=file, line=_line(error))
        ) from None
    except MarkedYAMLError as error:
        what = _first_line(error.problem or error.context)
        raise RecipeError(
            Fault("recipe/not-yaml", what, "mend the YAML at this line", file=file, line=_line(error))
        ) from None
    except (YAMLError, RecursionError) as error:
        raise RecipeError(Fault("recipe/not-yaml", _first_line(str(error)), "mend the YAML", file=file)) from None
    if not isinstance(plain, dict):
        what, fix = "a recipe is lines of `key: value`, and this is not", "write one with: tunesmith new NAME"
        raise RecipeError(Fault("recipe/not-a-mapping", what, fix, file=file))
    return plain, lines


def value_of(text: str) -> Any:
    """One YAML value, as after `--set KEY=`; an empty text is an empty text.

    Raises:
        ValueError: with what is wrong, where it is not YAML.
    """
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return _plain(_load(text)) if text.strip() else ""
    except MarkedYAMLError as error:
        raise ValueError(_first_line(error.problem or error.context)) from None
    except (YAMLError, RecursionError) as error:
        raise ValueError(_first_line(str(error))) from None


def write(tree: Mapping[str, Any]) -> str:
    """Plain values as YAML, in their own order."""
    from io import StringIO

    from ruamel.yaml import YAML

    out = StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(tree, out)
    return out.getvalue()


def _load(text: str) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="rt").load(text)  # the round-trip reader is the one that knows lines


def _line(error: Any) -> int | None:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else None


def _first_line(text: object) -> str:
    return str(text or "not YAML").strip().splitlines()[0]


def _lines(node: Any, way: Way) -> Iterator[tuple[Way, int]]:
    items: list[tuple[Any, str | int, Any]] = []
    if isinstance(node, Mapping):
        items = [(key, str(key), value) for key, value in node.items()]
    elif isinstance(node, list):
        items = [(index, index, value) for index, value in enumerate(node)]
    if not items:
        return
    known = node.lc.data or {}
    for key, name, value in items:
        if key in known:  # a key that came by an anchor has no line here
            yield (*way, name), known[key][0] + 1
        yield from _lines(value, (*way, name))


def _plain(node: Any) -> Any:
    """The same values without ruamel's own classes."""
    if isinstance(node, Mapping):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value) for value in node]
    for plain in (bool, int, float, str):
        if isinstance(node, plain):
            return plain(node)
    return node
