"""The metrics of short answers, by cases that a hand can compute."""

from __future__ import annotations

from fractions import Fraction

import pytest

from tunesmith.metrics._contract import Row
from tunesmith.metrics._numbers import result
from tunesmith.metrics.exact_match import ExactMatch
from tunesmith.metrics.label import Label
from tunesmith.metrics.normalised_match import NormalisedMatch
from tunesmith.metrics.number import Number


def rows(*pairs: tuple[str, str]) -> list[Row]:
    """Rows of (wanted, said)."""
    return [Row(said=said, wanted=wanted) for wanted, said in pairs]


@pytest.mark.parametrize(
    ("said", "wanted", "right"),
    [
        ("Paris", "Paris", 1),
        (" Paris\n", "Paris", 1),
        ("paris", "Paris", 0),
        ("", "", 1),
        ("", "Paris", 0),
        ("Zürich", "Zu\u0308rich", 0),
    ],
)
def test_an_exact_match_is_one_letter_by_letter(said: str, wanted: str, right: int) -> None:
    assert ExactMatch().score(Row(said, wanted)) == right


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("paris.", "Paris"),
        ("  New   York\n", "new york"),
        ("card_arrival", "Card arrival!"),
        ("Zürich", "Zu\u0308rich"),
        ("STRASSE", "straße"),
        ("\uff41\uff42\u3000\uff43", "ab c"),
        ("“Yes”", '"yes"'),
        ("3.5 km", "3.5 km."),
        ("-3!", "-3"),
        ("", "  "),
        (":-)", ":-)"),
        ("東京。", "東京"),
    ],
)
def test_case_spaces_punctuation_and_the_form_of_characters_play_no_part(said: str, wanted: str) -> None:
    assert NormalisedMatch().score(Row(said, wanted)) == 1
    assert NormalisedMatch().score(Row(wanted, said)) == 1


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("the Paris", "Paris"),
        ("35", "3.5"),
        ("1,5", "15"),
        ("-3", "3"),
        ("5 %", "5"),
        ("", "Paris"),
        (":-)", ":-("),
        ("é", "e"),
        ("!", ""),
    ],
)
def test_words_numbers_and_accents_stay_what_they_are(said: str, wanted: str) -> None:
    assert NormalisedMatch().score(Row(said, wanted)) == 0


def test_macro_f1_counts_a_rare_label_as_much_as_a_frequent_one() -> None:
    """a: 3 wanted, 2 right, said 2 times: 2 x 2 / 5. b: 1 wanted, right, said twice: 2 x 1 / 3."""
    asked = rows(("a", "a"), ("a", "a"), ("a", "b"), ("b", "b"))
    assert [Label().score(one) for one in asked] == [1, 1, 0, 1]
    found = Label().together(asked)
    assert found["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert found["outside"] == 0
    assert found["n_labels"] == 2
    assert found["confused"] == [{"wanted": "a", "said": "b", "rows": 1}]


def test_an_answer_that_is_no_label_counts_as_outside_and_against_the_wanted_one() -> None:
    asked = rows(("a", "a."), ("a", ""), ("b", "b"), ("b", "c"))
    assert Label().together(asked)["outside"] == 3 / 4
    known = Label(labels=("a", "b", "c")).together(asked)
    assert known["outside"] == 2 / 4
    assert known["macro_f1"] == pytest.approx((0 + 2 / 3) / 2)


def test_the_most_confused_pairs_come_first_and_those_of_equal_number_by_name() -> None:
    asked = rows(("b", "c"), ("a", "c"), ("a", "b"), ("a", "b"), ("c", "c"))
    assert Label().together(asked)["confused"] == [
        {"wanted": "a", "said": "b", "rows": 2},
        {"wanted": "a", "said": "c", "rows": 1},
        {"wanted": "b", "said": "c", "rows": 1},
    ]


def test_labels_all_alike_and_one_row_alone() -> None:
    assert Label().together(rows(("ja", "ja")))["macro_f1"] == 1
    assert Label().together(rows(("ja", "nein")))["macro_f1"] == 0
    assert Label().together([]) == {}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("He pays 3 x 6 = 18 dollars.\n#### 18", 18),
        ("#### 1,234", 1234),
        ("#### 650 000", 650_000),
        ("#### $18.00", 18),
        ("#### -7", -7),
        ("so it is 5. Then 12.", 12),
        ("about 1,000,000 people", 1_000_000),
        ("1.000.000 Einwohner", 1_000_000),
        ("1'000'000", 1_000_000),
        ("12\u00a0500 €", 12_500),
        ("1.234,56 €", Fraction(123_456, 100)),
        ("1,234.56", Fraction(123_456, 100)),
        ("2,5 km", Fraction(5, 2)),
        ("0.75", Fraction(3, 4)),
        ("3/4", Fraction(3, 4)),
        (".5", Fraction(1, 2)),
        ("-$20", -20),
        ("$-20", -20),
        ("\u22124 °C", -4),
        ("10-5", 5),
        ("1e3", 1000),
        ("50%", 50),
        ("5 m2", 5),
        ("1,2,3", 3),
        ("in 2020 100 people came", 100),
        ("٤٢", 42),
        ("no number", None),
        ("", None),
        ("1/0", None),
        ("#### none, not 5 but six", 5),
        ("9" * 5000, None),
        ("1e999999999", None),
    ],
)
def test_a_number_is_read_as_people_write_it(text: str, number: Fraction | None) -> None:
    assert result(text) == number


def test_answers_with_the_same_number_at_their_end_are_equal() -> None:
    number = Number()
    assert number.score(Row("It is 20 - 2 = 18 apples", "so 18\n#### 18")) == 1
    assert number.score(Row("#### 18.0", "#### 18")) == 1
    assert number.score(Row("#### 81", "#### 18")) == 0
    assert number.score(Row("", "#### 18")) == 0
    assert number.score(Row("18", "eighteen")) is None
