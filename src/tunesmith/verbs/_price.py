"""What an hour of a machine costs."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from tunesmith.errors import Fault, PlanError

WRITTEN = re.compile(r"(?P<before>[^\d\s.,+-]*)\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<after>[^\d\s.,+-]*)")


@dataclass(frozen=True)
class Price:
    """Of an hour; `currency` is the word or sign that stood beside the number, empty where there was none."""

    per_hour: float
    currency: str = ""

    def of(self, seconds: float) -> float:
        """Of so many seconds, to the hundredth."""
        return round(self.per_hour * seconds / 3600, 2)

    def in_words(self, amount: float) -> str:
        """An amount with its currency: `0.31 EUR`."""
        return f"{amount:.2f} {self.currency}".rstrip()


def read_price(written: float | str) -> Price:
    """The price that was written: a number, with a currency before or behind it or none.

    Raises:
        PlanError: `plan/bad-price`.
    """
    found = WRITTEN.fullmatch(str(written).strip())
    one_word = found is not None and not (found["before"] and found["after"])
    if found is None or not one_word or not math.isfinite(float(found["number"])):
        what = f"{str(written)!r} is no price of an hour"
        fix = 'write a number, with a currency where you like: --price-per-hour "1.20 EUR"'
        raise PlanError(Fault("plan/bad-price", what, fix=fix))
    return Price(float(found["number"]), found["before"] or found["after"])
