from __future__ import annotations

import pytest

from tunesmith import yaml12
from tunesmith.errors import Fault, RecipeError


def fault(text: str) -> Fault:
    with pytest.raises(RecipeError) as raised:
        yaml12.parse(text, "r.yaml")
    (found,) = raised.value.faults
    return found


def test_values_are_plain_python_and_each_key_knows_its_line() -> None:
    tree, lines = yaml12.parse("a: 1\nb:\n  - x\n  - c: 2.5\n1: true\nd: !odd e\n", "r.yaml")
    assert tree["a"] == 1
    assert tree["b"] == ["x", {"c": 2.5}]
    assert tree["1"] is True
    assert type(tree["a"]) is int
    assert type(tree["b"][1]) is dict
    assert lines == {("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1): 4, ("b", 1, "c"): 4, ("1",): 5, ("d",): 6}


def test_keys_that_come_by_an_anchor_have_no_line_and_do_no_harm() -> None:
    tree, lines = yaml12.parse("a: &x {t: 1}\nb:\n  <<: *x\n", "r.yaml")
    assert tree["b"] == {"t": 1}
    assert ("b", "t") not in lines


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("a: 1\na: 2\n", "recipe/doubled-key", 2),
        ("a:\n  b: 1\n  b: 2\n", "recipe/doubled-key", 3),
        ("%YAML 1.1\n---\na: no\n", "recipe/yaml-version", 1),
        ("a: [1\n", "recipe/not-yaml", 2),
        ("a:\n\tb: 1\n", "recipe/not-yaml", 2),
        ("a: 1\n---\nb: 2\n", "recipe/not-yaml", 2),
        ("a: *nowhere\n", "recipe/not-yaml", 1),
        ("", "recipe/not-a-mapping", None),
        ("- 1\n", "recipe/not-a-mapping", None),
        ("just words", "recipe/not-a-mapping", None),
    ],
)
def test_what_is_not_a_recipe_is_refused_with_its_line(text: str, code: str, line: int | None) -> None:
    found = fault(text)
    assert (found.code, found.line, found.file) == (code, line, "r.yaml")


def test_the_doubled_key_is_named() -> None:
    assert fault("base: 1\nbase: 2\n").what == "the key 'base' is written twice"


@pytest.mark.parametrize(("text", "value"), [("8", 8), ("1e-4", 1e-4), ("[a, 1]", ["a", 1]), ("null", None), ("", "")])
def test_one_value_is_read_by_the_same_rules(text: str, value: object) -> None:
    assert yaml12.value_of(text) == value


def test_one_value_that_is_not_yaml_says_why() -> None:
    with pytest.raises(ValueError, match="expected"):
        yaml12.value_of("[1")
