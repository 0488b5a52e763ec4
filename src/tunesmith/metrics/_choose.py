"""Which metrics fit the answers of a data set, when nobody names any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith import rooms
from tunesmith.errors import Fault


@dataclass(frozen=True)
class Choice:
    """A metric that fits, why, and what keeps it from working on this machine."""

    name: str
    why: str
    faults: Sequence[Fault] = ()


def choose(wanted: Sequence[str]) -> tuple[Choice, ...]:
    """The metrics that fit such answers, in the order of `rooms.py`: the first is the one to decide by.

    Those without answers to look at: none. `judge` is never chosen, because it asks a server.
    """
    chosen = []
    for name in rooms.names("metrics"):
        metric = rooms.find("metrics", name)()
        if why := metric.fits(wanted):
            chosen.append(Choice(name, why, metric.refuse()))
    return tuple(chosen)
