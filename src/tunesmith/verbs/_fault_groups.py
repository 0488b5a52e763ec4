"""Faults as they come: all counted, the first ones kept, and like ones together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tunesmith.errors import Fault

MOST_KEPT = 10_000
N_PLACES = 5
MOST_GROUPS = 1000  # keys that the data itself names could be without end
ANY_KEY = "(keys of many names)"
_INDEX = re.compile(r"\[\d+\]")


@dataclass
class Group:
    """Faults of one code at one kind of key, such as `messages[*].role`; `first` stands for them, `places` for some."""

    code: str
    key: str
    first: Fault
    n: int = 0
    is_mixed: bool = False
    """Whether not all of them say the same as the first."""
    places: list[Fault] = field(default_factory=list)

    def as_json(self) -> Mapping[str, Any]:
        """The same for programs; keys as `docs/json.md` promises."""
        places = [{"file": one.file, "line": one.line, "key": one.key} for one in self.places]
        said = {"what": self.first.what, "fix": self.first.fix}
        return {"code": self.code, "key": self.key, "count": self.n, **said, "places": places}


class Faults:
    """Every fault of any number of rows, in bounded memory. A fault without a place is there once."""

    def __init__(self) -> None:
        self.total = 0
        self.kept: list[Fault] = []
        self._groups: dict[tuple[str, str], Group] = {}

    def see(self, faults: Iterable[Fault]) -> None:
        """Some more."""
        for fault in faults:
            group = self._group(fault)
            if not fault.at and fault in group.places:
                continue
            self.total += 1
            group.n += 1
            group.is_mixed |= fault.what != group.first.what
            if len(group.places) < N_PLACES:
                group.places.append(fault)
            if len(self.kept) < MOST_KEPT:
                self.kept.append(fault)

    def _group(self, fault: Fault) -> Group:
        name = (fault.code, _INDEX.sub("[*]", fault.key))
        if name not in self._groups and len(self._groups) >= MOST_GROUPS:
            name = (fault.code, ANY_KEY)
        return self._groups.setdefault(name, Group(*name, fault))

    @property
    def groups(self) -> tuple[Group, ...]:
        """Like faults together, the most frequent first."""
        return tuple(sorted(self._groups.values(), key=lambda group: -group.n))
