"""What an hour costs, as people write it."""

from __future__ import annotations

import pytest

from tunesmith.errors import PlanError
from tunesmith.verbs._price import Price, read_price


@pytest.mark.parametrize(
    ("written", "price"),
    [
        (1.2, Price(1.2)),
        ("1.20", Price(1.2)),
        ("1.20 EUR", Price(1.2, "EUR")),
        ("1.20EUR", Price(1.2, "EUR")),
        ("$2", Price(2.0, "$")),
        ("EUR 0.5", Price(0.5, "EUR")),
    ],
)
def test_a_number_has_a_currency_beside_it_or_none(written: float | str, price: Price) -> None:
    assert read_price(written) == price


@pytest.mark.parametrize("written", ["", "cheap", "-1", "1,20 EUR", "EUR 1 EUR", "nan", "1.2.3"])
def test_what_is_no_price_is_refused(written: str) -> None:
    with pytest.raises(PlanError) as error:
        read_price(written)
    assert error.value.faults[0].code == "plan/bad-price"


def test_ninety_minutes_cost_one_and_a_half_hours() -> None:
    assert Price(1.2, "EUR").of(5400) == 1.8
    assert Price(1.2, "EUR").in_words(1.8) == "1.80 EUR"
