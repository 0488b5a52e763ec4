from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from tunesmith.errors import Fault
from tunesmith.text.example import Example


class Format(Protocol):
    """How a row is read."""

    kind: ClassVar[str]

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """Whether a row looks like this format; used when the recipe names none."""

    def read(self, row: Mapping[str, Any], file: str, line: int) -> Example | list[Fault]:
        """The example in a row, or every fault of the row."""
