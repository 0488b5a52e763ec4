from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from tunesmith.errors import Fault
from tunesmith.text.example import Example


class Format(Protocol):
    """How a row is read. One instance reads one data set."""

    kind: ClassVar[str]
    ignored: Counter[str]  # keys that mean nothing to this format, with how often they were passed over
    notes: Counter[str]  # what else is worth knowing of rows, with how many it concerns

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """Whether a row looks like this format; used when the recipe names none."""

    def read(self, row: Mapping[str, Any], file: str, line: int) -> Example | list[Fault]:
        """The example in a row, or every fault of the row."""
