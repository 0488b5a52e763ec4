"""What a verb gives back to the command line: a tree for programs, and how to paint it for a person."""

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 160  # columns of a table that goes into a file or a pipe


@dataclass(frozen=True)
class Out:
    """A verb's answer: JSON tree, painter, exit code, and what goes on once it is shown."""

    tree: Mapping[str, Any]
    paint: Callable[["Console"], None]
    code: int = 0
    then: Callable[[], None] | None = None

    def show(self, stream: TextIO, *, as_json: bool) -> None:
        """Write one JSON document, or paint."""
        if as_json:
            write_json(self.tree, stream)
        else:
            to = console(stream)
            with to.capture() as painted:
                self.paint(to)
            text = painted.get()
            stream.write(text if stream.isatty() else _without_ends(text))
            stream.flush()


def _without_ends(text: str) -> str:
    """The lines without the blanks that fill a table's last column."""
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


def console(stream: TextIO) -> "Console":
    """A console that is as wide as the terminal, or wide where there is none; NO_COLOR is kept."""
    from rich.console import Console

    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDE
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def write_json(tree: Mapping[str, Any], stream: TextIO) -> None:
    """One JSON document; what JSON has no word for (nan, infinity) becomes null."""
    stream.write(json.dumps(_plain(tree), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    stream.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)  # a path
