from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from tunesmith.risks._row import Row
    from tunesmith.risks._seen import Seen

N_PLACES = 5  # told of each thing found


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row stands; lines from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


@dataclass(frozen=True)
class Found:
    """What one member found in all of the data.

    `severity` is high where tuning on this is likely a mistake, and low where it is worth a look. `what` is one
    sentence with the numbers and `fix` what a person can do. `places` are those of the first few rows, in the order of
    the data; `drop` those of rows that can be left out without loss, such as the later copies of equal rows.
    """

    risk: str
    severity: Literal["high", "low"]
    what: str
    fix: str
    n_rows: int
    places: tuple[Place, ...]
    drop: tuple[Place, ...] = ()


class Risk(Protocol):
    """What in the data may hurt? One instance looks at one data set, and keeps some bytes of a row at most."""

    kind: ClassVar[str]
    asks: ClassVar[str]  # the question, as a person would ask it

    def __init__(self, seen: Seen) -> None:
        """`seen` is what all members share: it has taken in each row before they see it."""

    def see(self, row: Row) -> None:
        """Looks at one usable row; each is shown once, in the order of the data."""

    def found(self) -> tuple[Found, ...]:
        """What there is to tell, after the last row."""
