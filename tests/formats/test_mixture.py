from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith.errors import RecipeError
from tunesmith.formats._mixture import weighted
from tunesmith.recipe import Data, Recipe, Rows
from tunesmith.text.example import Example

ROWS = tuple(Example(text=str(number)) for number in range(100))


@pytest.mark.parametrize(("weight", "n_rows", "most"), [(0.5, 50, 1), (1, 100, 1), (1.5, 150, 2), (2, 200, 2)])
def test_each_row_is_seen_as_often_as_the_weight_says(weight: float, n_rows: int, most: int) -> None:
    seen = weighted(ROWS, weight, seed=1)
    assert len(seen) == n_rows
    assert max(map(seen.count, ROWS)) == most
    assert min(map(seen.count, ROWS)) == int(weight)


def test_which_rows_are_drawn_depends_on_seed_and_content_alone() -> None:
    first = set(weighted(ROWS, 0.3, seed=1))
    assert set(weighted(tuple(reversed(ROWS)), 0.3, seed=1)) == first
    assert set(weighted(ROWS, 0.3, seed=2)) != first
    assert weighted(ROWS[:1] * 10, 0.5, seed=1) == ROWS[:1] * 5


def data(train: Any) -> Data:
    return Recipe.from_text(f"base: a\ndata: {json.dumps({'train': train, 'format': 'text'})}").data


def test_a_mixture_is_written_as_names_and_parts() -> None:
    assert data("a").parts == (Rows(path="a", format="text"),)
    parts = data(["a", {"path": "b", "weight": 0.5, "format": "messages"}]).parts
    assert parts == (Rows(path="a", format="text"), Rows(path="b", weight=0.5, format="messages"))
    recipe = Recipe(base="a", data=Data(train=["a", Rows(path="b", weight=2)]))
    assert Recipe.from_text(recipe.as_yaml()) == recipe
    assert recipe.data.names == ["a", "b"]


@pytest.mark.parametrize(
    ("part", "code", "key"),
    [
        ({"path": "a", "wieght": 2}, "recipe/unknown-key", "data.train[0].wieght"),
        ({"weight": 2}, "recipe/missing-key", "data.train[0].path"),
        ({"path": "a", "weight": 0}, "recipe/bad-value", "data.train[0].weight"),
        ({"path": "a", "weight": True}, "recipe/bad-value", "data.train[0].weight"),
        ({"path": "a", "format": "mesages"}, "recipe/unknown-member", "data.train[0].format"),
    ],
)
def test_a_part_that_cannot_be_is_a_fault_of_the_recipe(part: dict[str, Any], code: str, key: str) -> None:
    with pytest.raises(RecipeError) as raised:
        data([part])
    (fault,) = raised.value.faults
    assert (fault.code, fault.key) == (code, key)
    assert code != "recipe/unknown-key" or "did you mean 'weight'?" in fault.fix


def test_what_is_learnt_depends_on_the_weights() -> None:
    def hash_of(train: Any) -> str:
        return Recipe.model_validate({"base": "a", "data": {"train": train}}).learning_hash()

    plain = hash_of("a")
    assert hash_of(["a"]) == hash_of([{"path": "a"}]) == plain
    assert len({plain, hash_of([{"path": "a", "weight": 2}]), hash_of([{"path": "a", "weight": 0.5}])}) == 3


def test_a_plan_says_how_many_rows_of_each_part_are_seen(tmp_path: Path) -> None:
    from datetime import date

    from tunesmith.machine import Machine
    from tunesmith.verbs._ready import Ready, _examples

    for name, n_rows in (("a", 10), ("b", 20)):
        lines = [json.dumps({"text": f"{name} {number}"}) for number in range(n_rows)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    train = [{"path": str(tmp_path / "a.jsonl"), "weight": 2}, {"path": str(tmp_path / "b.jsonl"), "weight": 0.5}]
    recipe = Recipe.model_validate({"base": "a", "data": {"train": train, "test": 0.2}})
    ready = Ready(recipe, Machine.look(tmp_path), date(2026, 1, 1))
    learnt, held = _examples(ready, None)
    assert len(held) == 6
    assert not {one.text for one in learnt} & {one.text for one in held}
    n_a = 10 - sum(one.text.startswith("a") for one in held)
    n_b = 24 - n_a
    assert len(learnt) == 2 * n_a + round(n_b / 2)
    told = {chosen.name: chosen.value for chosen in ready.values}
    assert told[f"rows of {train[0]['path']}"] == f"{2 * n_a} an epoch"
    assert told[f"rows of {train[1]['path']}"] == f"{round(n_b / 2)} an epoch"
    assert all(chosen.why for chosen in ready.values)
