from __future__ import annotations

from typing import Any

import pytest

from tunesmith import changes
from tunesmith.errors import RecipeError
from tunesmith.recipe import Recipe

KINDS = {"method": "lora"}


def changed(tree: dict[str, Any], *words: str) -> dict[str, Any]:
    changes.make(tree, words, KINDS)
    return tree


def test_a_value_is_changed_or_added() -> None:
    assert changed({"run": {"seed": 1}}, "run.seed=2", "run.epochs=0.5") == {"run": {"seed": 2, "epochs": 0.5}}


def test_a_member_that_is_not_there_or_is_only_named_takes_options() -> None:
    assert changed({}, "method.rank=8") == {"method": {"kind": "lora", "rank": 8}}
    assert changed({"method": "full"}, "method.x=8") == {"method": {"kind": "full", "x": 8}}
    assert changed({"data": None}, "data.train=x") == {"data": {"train": "x"}}


def test_lists_are_given_whole_or_by_place() -> None:
    assert changed({}, "export=[gguf, web]") == {"export": ["gguf", "web"]}
    assert changed({"export": ["gguf", "web"]}, "export.1=ollama") == {"export": ["gguf", "ollama"]}
    assert changed({"export": ["gguf"]}, "export.0.types=[f16]") == {"export": [{"kind": "gguf", "types": ["f16"]}]}


def test_the_last_of_two_changes_of_one_key_counts() -> None:
    assert changed({}, "base=a", "base=b") == {"base": "b"}


def test_a_value_may_hold_an_equals_sign() -> None:
    assert changed({}, "base=a=b") == {"base": "a=b"}


@pytest.mark.parametrize(
    "word", ["method.rank", "=3", ".a=3", "a..b=3", "base.x=3", "export.7=web", "export.x=web", "method.rank=[3"]
)
def test_a_change_that_cannot_be_made_is_refused(word: str) -> None:
    with pytest.raises(RecipeError) as raised:
        changed({"base": "a", "export": ["gguf"]}, word)
    (fault,) = raised.value.faults
    assert (fault.code, fault.place) == ("recipe/bad-set", f"--set {word}")


def test_all_changes_that_cannot_be_made_are_named_at_once() -> None:
    with pytest.raises(RecipeError) as raised:
        changed({}, "a", "b", "c=1")
    assert len(raised.value.faults) == 2


def test_a_wrong_value_is_blamed_on_the_change_and_not_on_a_line() -> None:
    with pytest.raises(RecipeError) as raised:
        Recipe.from_text("base: a\ndata: {train: x}\nrun: {seed: 1}\n", "r.yaml", ["run.seed=zero", "run.sed=3"])
    first, second = raised.value.faults
    assert (first.at, first.line) == ("run.seed, --set run.seed=zero", None)
    assert second.code == "recipe/unknown-key"
