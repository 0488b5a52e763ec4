"""What the pages share: one look, text that can be read whatever it holds, and nothing that is asked for or run.

All text of the data is escaped, and characters that would steer what a reader sees are written out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.errors import Fault

HERE = Path(__file__).parent
LONGEST_SAID = 300  # characters of a text in a table
# Control characters, and those that turn or hide what stands beside them.
HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)


@dataclass(frozen=True)
class Bit:
    """Some text as it can be read; `kind` is `text`, `end` for the end of a line, or `hidden` for a written out one."""

    text: str
    kind: str


def render(template: str, **values: Any) -> str:
    """The page that a template beside this file makes of the values."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(bits=bits, thousands=_thousands, percent=_percent, place=_place, short=_short)
    return environment.get_template(template).render(**values)


def bits(text: str) -> Iterator[Bit]:
    """The text with ends of lines and hidden characters apart from what can be read."""
    for number, line in enumerate(text.split("\n")):
        if number:
            yield Bit("\n", "end")
        at = 0
        for found in HIDDEN.finditer(line):
            if found.start() > at:
                yield Bit(line[at : found.start()], "text")
            yield Bit(f"U+{ord(found[0]):04X}", "hidden")
            at = found.end()
        if line[at:]:
            yield Bit(line[at:], "text")


def _thousands(n: int) -> str:
    return f"{n:,}"


def _percent(share: float) -> str:
    return "under 1%" if 0 < share < 0.01 else f"{share:.0%}"


def _place(fault: Fault) -> str:
    return fault.at


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SAID else f"{text[:LONGEST_SAID]}..."
