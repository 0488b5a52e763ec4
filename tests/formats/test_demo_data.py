from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from tunesmith.formats._reading import read
from tunesmith.orders import make_data
from tunesmith.recipe import Recipe

FOLDER = Path(str(resources.files("tunesmith").joinpath("orders")))


def pairs(name: str) -> list[tuple[str, str]]:
    return [
        (row.messages[0]["content"], row.messages[1]["content"]) for row in read(str(FOLDER / name)).or_raise().examples
    ]


def test_the_script_writes_the_rows_that_are_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_data, "__file__", str(tmp_path / "make_data.py"))
    make_data.main()
    for name in ("train.jsonl", "test.jsonl"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()


def test_no_held_out_words_and_no_held_out_order_is_learnt() -> None:
    train, test = pairs("train.jsonl"), pairs("test.jsonl")
    assert (len(train), len(test)) == (500, 60)
    for side in (0, 1):
        assert not {pair[side] for pair in train} & {pair[side] for pair in test}


def test_each_order_is_ascii_and_its_json_has_one_shape() -> None:
    for words, answer in pairs("train.jsonl") + pairs("test.jsonl"):
        assert (words + answer).isascii()
        order = json.loads(answer)
        assert set(order) == {"items", "to_go"}
        assert all({"n", "item"} <= set(item) <= {"n", "item", "size"} for item in order["items"])


def test_the_recipe_is_read() -> None:
    recipe = Recipe.read(FOLDER / "recipe.yaml")
    assert recipe.base == "bundle:smollm2-135m-instruct"
    assert [type(part).kind for part in recipe.export] == ["gguf", "ollama", "web"]
