"""Numbers in sentences."""

from __future__ import annotations


def rows(n: int, of: int) -> str:
    """`14 rows (0.7 %)`."""
    return f"{n:,} {'row' if n == 1 else 'rows'} ({share(n, of)})"


def share(n: int, of: int) -> str:
    """`0.7 %`; never 0 % of something."""
    percent = 100 * n / of if of else 0.0
    if 0 < percent < 0.1:
        return "below 0.1 %"
    return f"{percent:.1f} %" if percent < 10 else f"{percent:.0f} %"


def are(n: int, one: str, many: str) -> str:
    """The verb that goes with a number."""
    return one if n == 1 else many
