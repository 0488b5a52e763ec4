"""What a random base cannot show: vectors before the text call up what a model that knows language can say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import needs
from tunesmith.recipe import Recipe
from tunesmith.verbs.tune import tune

DEMO = Path(__file__).parents[2] / "src" / "tunesmith" / "orders" / "train.jsonl"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["prompt", "ptuning"])
def test_a_soft_prompt_learns_eight_rows_of_real_text_by_heart(kind: str, tmp_path: Path) -> None:
    eight = sorted(DEMO.read_text(encoding="utf-8").splitlines(keepends=True), key=len)[:8]  # short ones: soon learnt
    rows = tmp_path / "eight.jsonl"
    rows.write_text("".join(eight), encoding="utf-8")
    recipe = Recipe.model_validate(
        {
            "base": str(needs.smollm2()),
            "data": {"train": str(rows)},
            "objective": "sft",
            "method": {"kind": kind, "length": 20, "text": "Write the order as JSON."},
            "run": {"epochs": 100, "batch_size": 8, "seed": 1},
        }
    )
    run = tune(recipe, into=tmp_path / "run")
    losses = [json.loads(line)["loss"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert len(losses) == 100
    assert losses[0] > 1
    assert losses[-1] < 0.05
