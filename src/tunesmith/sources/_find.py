from __future__ import annotations

from tunesmith import rooms
from tunesmith.sources._contract import Source


def source_of(base: str) -> Source:
    """The member of this room that brings `base`: the first, in the order of `rooms.py`, that claims it."""
    members = (rooms.find("sources", name) for name in rooms.names("sources"))
    source: Source = next(member for member in members if member.claims(base))()
    return source
