"""The small part of Go's text/template that our Ollama templates are written in, and what Ollama hands to it.

It is here so that a derived template can be held against the tokenizer's own before any server is asked. Known to it:
`.Field`, `$name`, `$.Field`, strings, whole numbers, `true`, `false`, `eq ne not and or len slice`, `:=`, `=`, `if`,
`else if`, `else`, `range $i, $m :=`, `end`. Trim marks (`{{-`) are not, and are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith.text.example import Message

_ACTION = re.compile(r'\{\{((?:"(?:[^"\\]|\\.)*"|[^"}]|\}(?!\}))*)\}\}', re.DOTALL)
_WORD = re.compile(r'\s*("(?:[^"\\]|\\.)*"|:=|[(),=]|[^\s(),=:]+)')


def render(template: str, messages: Sequence[Message]) -> str:
    """What Ollama would make of a conversation whose first turn is the system turn, where the model has one.

    Raises:
        ValueError: the template goes beyond the part that is known here.
    """
    turns = joined(messages)
    system = "\n\n".join(str(turn["content"]) for turn in messages if turn["role"] == "system")
    root = {"System": system, "Messages": [{"Role": turn["role"], "Content": turn["content"]} for turn in turns]}
    out: list[str] = []
    _run(_parse(template), root, {"$": root}, out)
    return "".join(out)


def joined(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Ollama joins turns of one role that follow each other, with a blank line between them."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if turns and turns[-1]["role"] == message["role"]:
            turns[-1]["content"] += "\n\n" + message["content"]
        else:
            turns.append({"role": message["role"], "content": message["content"]})
    return turns


def literal(text: str) -> str:
    """Text as it is written outside an action; a last brace would join the braces of what follows."""
    return re.sub(r"\{\{|\{\Z", lambda found: f'{{{{ "{found[0]}" }}}}', text)


@dataclass(frozen=True)
class _Text:
    text: str


@dataclass(frozen=True)
class _Action:
    words: tuple[str, ...]


@dataclass(frozen=True)
class _Branch:
    """`if` or `range`: conditions with what is done under each; `else` has no words."""

    kind: str
    arms: tuple[tuple[tuple[str, ...], tuple[_Node, ...]], ...]


_Node = _Text | _Action | _Branch


def _parse(template: str) -> tuple[_Node, ...]:
    pieces = iter(_pieces(template))
    nodes, end = _block(pieces)
    if end:
        raise ValueError(f"{' '.join(end)!r} without a beginning")
    return nodes


def _pieces(template: str) -> Iterator[_Text | _Action]:
    at = 0
    for found in _ACTION.finditer(template):
        yield _Text(template[at : found.start()])
        words = tuple(_WORD.findall(found[1]))
        if not words or words[0].startswith("-") or words[-1].endswith("-"):
            raise ValueError(f"not known here: {found[0]}")
        yield _Action(words)
        at = found.end()
    if "{{" in template[at:]:
        raise ValueError("an action that does not end")
    yield _Text(template[at:])


def _block(pieces: Iterator[_Text | _Action]) -> tuple[tuple[_Node, ...], tuple[str, ...]]:
    """The nodes up to an `end` or `else`, and the words of that; no words at the end of the template."""
    nodes: list[_Node] = []
    for piece in pieces:
        if isinstance(piece, _Text) or piece.words[0] not in ("if", "range", "else", "end"):
            nodes.append(piece)
        elif piece.words[0] in ("else", "end"):
            return tuple(nodes), piece.words
        else:
            nodes.append(_branch(piece.words, pieces))
    return tuple(nodes), ()


def _branch(words: tuple[str, ...], pieces: Iterator[_Text | _Action]) -> _Branch:
    arms = []
    condition = words[1:]
    while True:
        body, end = _block(pieces)
        arms.append((condition, body))
        if not end:
            raise ValueError(f"{' '.join(words)!r} without an end")
        if end[0] == "end":
            return _Branch(words[0], tuple(arms))
        condition = end[2:] if end[1:2] == ("if",) else ()


def _run(nodes: Sequence[_Node], dot: Any, names: dict[str, Any], out: list[str]) -> None:
    for node in nodes:
        if isinstance(node, _Text):
            out.append(node.text)
        elif isinstance(node, _Action):
            _act(node.words, dot, names, out)
        elif node.kind == "range":
            _range(node, dot, names, out)
        else:
            chosen = (body for words, body in node.arms if not words or _value(words, dot, names))
            _run(next(chosen, ()), dot, names, out)


def _act(words: tuple[str, ...], dot: Any, names: dict[str, Any], out: list[str]) -> None:
    if words[1:2] in ((":=",), ("=",)):
        names[words[0]] = _value(words[2:], dot, names)
    else:
        out.append(str(_value(words, dot, names)))


def _range(node: _Branch, dot: Any, names: dict[str, Any], out: list[str]) -> None:
    ((words, body),) = node.arms
    index, comma, value, assign, *rest = words
    if (comma, assign) != (",", ":="):
        raise ValueError(f"not known here: range {' '.join(words)}")
    for i, item in enumerate(_value(tuple(rest), dot, names)):
        names[index], names[value] = i, item
        _run(body, item, names, out)


def _value(words: Sequence[str], dot: Any, names: Mapping[str, Any]) -> Any:
    operands = list(_operands(list(words), dot, names))
    if not isinstance(operands[0], _Function):
        if len(operands) != 1:
            raise ValueError(f"not known here: {' '.join(words)}")
        return operands[0]
    name, given = operands[0].name, operands[1:]
    match name:
        case "eq":
            return given[0] == given[1]
        case "ne":
            return given[0] != given[1]
        case "not":
            return not given[0]
        case "and":
            return next((one for one in given if not one), given[-1])
        case "or":
            return next((one for one in given if one), given[-1])
        case "len":
            return len(given[0])
        case _:
            return given[0][slice(*given[1:], *([None] if len(given) == 2 else []))]


@dataclass(frozen=True)
class _Function:
    name: str


def _operands(words: list[str], dot: Any, names: Mapping[str, Any]) -> Iterator[Any]:
    while words:
        word = words.pop(0)
        if word != "(":
            yield _operand(word, dot, names)
            continue
        depth, inner = 1, []
        while depth:
            one = words.pop(0)
            depth += {"(": 1, ")": -1}.get(one, 0)
            inner.append(one)
        yield _value(inner[:-1], dot, names)


def _operand(word: str, dot: Any, names: Mapping[str, Any]) -> Any:
    if word in ("eq", "ne", "not", "and", "or", "len", "slice"):
        return _Function(word)
    if word in ("true", "false"):
        return word == "true"
    if word.startswith('"'):
        return word[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if word.isdigit():
        return int(word)
    if word.startswith("$"):
        name, _, field = word.partition(".")
        if name in names and (not field or field in names[name]):
            return names[name][field] if field else names[name]
    elif word[:1] == "." and word[1:] in dot:
        return dot[word[1:]]
    raise ValueError(f"not known here: {word}")
