"""Every method by a recipe, on chats and on raw text: tuned, broken off and gone on with, at rest, and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tiny.models import save
from tiny.moved import power_cut
from tiny.rows import write_chats
from tunesmith import rooms
from tunesmith.recipe import Recipe
from tunesmith.runtimes.torch import open_folder
from tunesmith.text.template import Text
from tunesmith.verbs.tune import tune

MORE: dict[str, dict[str, Any]] = {"lora": {"rank": 4}, "qlora": {"rank": 4}}  # what a tiny base asks for


EACH = pytest.mark.parametrize("kind", rooms.names("methods"))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"), initializer_range=0.15)


def recipe(kind: str, objective: str, base: Path, folder: Path) -> Recipe:
    if objective == "sft":
        data = write_chats(folder / "rows.jsonl")
    else:
        data = folder / "rows.jsonl"
        text = "the quick brown fox jumps over the lazy dog 0123456789. " * 4
        data.write_text("".join(json.dumps({"text": f"{one} {text}"}) + "\n" for one in range(8)))
    tree = {"base": str(base), "data": {"train": str(data), "test": 0.25}, "objective": objective}
    run = {"epochs": 2, "batch_size": 2, "learning_rate": 1e-2, "max_length": 96, "checkpoint_minutes": 1e-6}
    return Recipe.model_validate({**tree, "method": {"kind": kind, **MORE.get(kind, {})}, "run": run})


@EACH
@pytest.mark.parametrize("objective", ["sft", "uft"])
def test_it_learns_from_chats_and_from_text_and_answers_at_rest(
    kind: str, objective: str, base: Path, tmp_path: Path
) -> None:
    told = recipe(kind, objective, base, tmp_path)
    run = tune(told, into=tmp_path / "run")
    about = json.loads((run.folder / "settled.json").read_text())["about"]
    assert about["settled_gap"] <= 1e-4 < about["moved"]
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    held = [line["held_out_loss"] for line in lines if "held_out_loss" in line]
    assert len(held) == 3
    assert (run.adapter is not None) == told.method.keeps_base  # type: ignore[attr-defined]
    with open_folder(run.model.folder) as model:
        ask: Any = "the quick" if objective == "uft" else [{"role": "user", "content": "hello"}]
        assert model.answer(ask, 4).n_answer_tokens >= 1
        assert model.text.end_ids == Text.read(base).end_ids


@EACH
def test_broken_off_and_gone_on_with_it_ends_where_a_straight_run_does(
    kind: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = recipe(kind, "sft", base, tmp_path)
    straight = tune(told, into=tmp_path / "straight")
    with power_cut(monkeypatch, step=5):
        tune(told, into=tmp_path / "broken")
    broken = tune(told, into=tmp_path / "broken", resume=True)
    assert broken.model.identity == straight.model.identity
