from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith import rooms
from tunesmith.risks._contract import Found, Place, Risk
from tunesmith.risks._row import Row
from tunesmith.risks._seen import Seen
from tunesmith.text.example import Example

if TYPE_CHECKING:
    from tunesmith.text.template import Text


class Looking:
    """All members of the room over the rows of one data set.

    `text` is that of the model that will be tuned, None where none was named. Some 24 bytes of each row are kept, and
    for near duplicates the words of a bounded number of rows.
    """

    def __init__(self, text: Text | None = None) -> None:
        self._seen = Seen(text)
        self._members: tuple[Risk, ...] = tuple(rooms.find("risks", name)(self._seen) for name in rooms.names("risks"))
        self._n_rows = 0

    def see(self, example: Example, *, test: bool = False) -> None:
        """Looks at one usable row; each once, in the order of the data. `test`: it is of a test file."""
        row = Row(example, Place(example.file, example.line), test, self._n_rows)
        self._n_rows += 1
        self._seen.take(row)
        for member in self._members:
            member.see(row)

    def found(self) -> tuple[Found, ...]:
        """What there is to tell after the last row: the high ones first, else in the order of the room."""
        told = [one for member in self._members for one in member.found()]
        return tuple(sorted(told, key=lambda one: one.severity != "high"))
