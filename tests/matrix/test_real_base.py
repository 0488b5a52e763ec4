"""What a random base cannot show: vectors before the text call up what a model that knows language can say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import needs
from tiny.rows import write_chats
from tunesmith.recipe import Recipe
from tunesmith.verbs.tune import tune

# Short, so that a step is soon taken; and nothing that the base could know.
EIGHT = {
    "Code A1?": "heron",
    "Code B2?": "fox",
    "Code C3?": "turtle",
    "Code D4?": "owl",
    "Code E5?": "swan",
    "Code F6?": "wolf",
    "Code G7?": "bear",
    "Code H8?": "eagle",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["prompt", "ptuning"])
def test_a_soft_prompt_learns_eight_rows_of_real_text_by_heart(kind: str, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        {
            "base": str(needs.smollm2()),
            "data": {"train": str(write_chats(tmp_path / "eight.jsonl", EIGHT))},
            "method": {"kind": kind, "length": 20, "text": "Answer with the name of the animal that has this code."},
            "run": {"epochs": 75, "batch_size": 8, "seed": 1},
        }
    )
    run = tune(recipe, into=tmp_path / "run")
    losses = [json.loads(line)["loss"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 75
    assert losses[0] > 1
    assert losses[-1] < 0.1
