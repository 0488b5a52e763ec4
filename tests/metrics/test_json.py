"""The metrics of JSON answers, by cases that a hand can compute."""

from __future__ import annotations

import pytest

from tunesmith.metrics import _json
from tunesmith.metrics._contract import Row
from tunesmith.metrics.json_fields import JsonFields
from tunesmith.metrics.json_match import JsonMatch

WANTED = '{"intent": "Play", "slots": {"artist": "Bach", "year": 1720}}'


@pytest.mark.parametrize(
    ("said", "wanted", "right"),
    [
        ('{"a":1,"b":[1,2]}', '{"b": [1, 2], "a": 1}', 1),
        ('{"a": 1.0}', '{"a": 1}', 1),
        ('{"a": true}', '{"a": 1}', 0),
        ('{"a": null}', "{}", 0),
        ('{"a": [2, 1]}', '{"a": [1, 2]}', 0),
        ('{"a": {}}', '{"a": []}', 0),
        ('{"a": "1"}', '{"a": 1}', 0),
        ('```json\n{"a": 1}\n```', '{"a": 1}', 1),
        ('Sure! {"a": 1}', '{"a": 1}', 0),
        ('{"a": "Zu\u0308rich"}', '{"a": "Z\u00fcrich"}', 0),
        ('{"a": "Z\\u00fcrich"}', '{"a": "Z\u00fcrich"}', 1),
        ("", "{}", 0),
        ("null", "null", 1),
        ("x", "null", 0),
    ],
)
def test_the_same_json_is_one_whatever_its_spaces_and_the_order_of_keys(said: str, wanted: str, right: int) -> None:
    assert JsonMatch().score(Row(said, wanted)) == right


def test_a_row_that_wants_no_json_is_not_looked_at() -> None:
    assert JsonMatch().score(Row("{}", "hello")) is None
    assert JsonFields().score(Row("{}", "hello")) is None
    assert JsonFields().together([Row("{}", "hello")]) == {}
    assert JsonFields().together([]) == {}


def test_fields_are_paths_with_values() -> None:
    """Three are wanted. Said are intent (right), artist (right), year as text (wrong), mood (not wanted)."""
    said = '{"intent": "Play", "slots": {"artist": "Bach", "year": "1720", "mood": "calm"}}'
    assert JsonFields().score(Row(said, WANTED)) == pytest.approx(2 * 2 / (4 + 3))
    assert JsonFields().score(Row(WANTED, WANTED)) == 1
    assert JsonFields().score(Row("Play Bach", WANTED)) == 0
    assert JsonFields().score(Row("", WANTED)) == 0


def test_the_fields_of_all_rows_are_counted_together() -> None:
    half = '{"intent": "Play", "slots": {"artist": "Vivaldi"}}'
    found = JsonFields().together([Row(WANTED, WANTED), Row(half, WANTED), Row("oh", WANTED)])
    assert found == {"valid": pytest.approx(2 / 3), "precision": 4 / 5, "recall": 4 / 9, "f1": 8 / 14}


def test_without_any_json_precision_is_nought() -> None:
    assert JsonFields().together([Row("", "{}")]) == {"valid": 0, "precision": 0, "recall": 0, "f1": 0}


def test_the_order_of_a_list_plays_no_part_for_its_fields_but_what_stands_twice_counts_twice() -> None:
    fields = JsonFields()
    assert fields.score(Row("[1, 2, 3]", "[3, 2, 1]")) == 1
    assert fields.score(Row("[1, 1]", "[1]")) == pytest.approx(2 / 3)
    assert fields.score(Row('[{"a": 1}, {"a": 2}]', '[{"a": 2}]')) == pytest.approx(2 / 3)
    assert fields.score(Row("{}", "{}")) == 1
    assert fields.score(Row('{"a": []}', '{"a": {}}')) == 0


@pytest.mark.parametrize(
    "text", ["[" * 20_000, "[" * 20_000 + "]" * 20_000, "NaN", "[Infinity]", "9" * 5000, "{", "'a'"]
)
def test_what_no_application_would_read_is_no_json(text: str) -> None:
    assert _json.read(text) is _json.NotJson
