"""What a recipe leaves open is chosen by rules with borders, each with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tiny.models import save
from tiny.rows import write_chats
from tunesmith.errors import RecipeError
from tunesmith.machine import Machine
from tunesmith.methods.lora import Lora
from tunesmith.recipe import Options, Recipe
from tunesmith.verbs import _auto
from tunesmith.verbs.plan import Plan, plan
from tunesmith.verbs.tune import tune
from tunesmith.weights.facts import BaseFacts

GB = 10**9


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"), initializer_range=0.15)


@pytest.mark.parametrize(
    ("n_parameters", "n_rows", "memory", "kind"),
    [
        (135_000_000, 2100, 24 * GB, "full"),
        (500_000_000, 1000, 24 * GB, "full"),
        (500_000_001, 1000, 24 * GB, "lora"),
        (135_000_000, 999, 24 * GB, "lora"),
        (135_000_000, 2100, 11 * GB, "lora"),  # 85% of it are less than the ten that full takes
        (135_000_000, 2100, 4 * GB, "qlora"),
    ],
)
def test_the_method_follows_from_base_rows_and_memory(n_parameters: int, n_rows: int, memory: int, kind: str) -> None:
    sizes = {"full_bytes": 10 * GB, "lora_bytes": 4 * GB}
    method, why = _auto.choose_method(n_parameters=n_parameters, n_rows=n_rows, memory_bytes=memory, **sizes)
    assert type(method).kind == kind
    assert why


def test_the_rank_is_the_least_that_holds_the_learnt_tokens(base: Path) -> None:
    """Of rank one: two layers of 2 (64+64) + 2 (64+32) + 3 (64+128), 2,048 weights, each of which holds two tokens."""
    facts, one = BaseFacts.read(base), Lora(rank=1)
    assert one.trainable(facts) == 2048
    chosen = {learnt: _auto.rank_for(learnt, one, facts).value for learnt in (1, 8 * 4096, 8 * 4096 + 1, 10**9)}
    assert chosen == {1: 8, 8 * 4096: 8, 8 * 4096 + 1: 16, 10**9: 32}  # no layer is wider than 32


@pytest.mark.parametrize(
    ("lengths", "epochs"),
    [
        ([(20, 5)] * 8, 10),  # thirteen would make a hundred looks
        ([(20, 5)] * 20, 5),
        ([(20, 5)] * 33, 4),
        ([(20, 5)] * 34, 3),
        ([(20, 5)] * 8333, 3),
        ([(20, 5)] * 8334, 2),
        ([(20, 5)] * 25_000, 1),
        ([(20, 5)] * 100_000, 1),
        ([(9000, 8000)] * 500, 2),  # four million learnt tokens
        ([(1024, 1023)] * 5, 3),  # raw text
    ],
)
def test_few_rows_are_seen_more_often_and_many_less(lengths: list[tuple[int, int]], epochs: int) -> None:
    from tunesmith.learn.settings import _epochs

    assert _epochs(Options(epochs="auto"), lengths).value == epochs
    assert _epochs(Options(), lengths).value == 3.0
    assert Options().epochs == 3.0


def planned(base: Path, folder: Path, *, run: dict[str, Any] | None = None, **parts: Any) -> Plan:
    return plan(recipe(base, folder, run=run, **parts), into=folder / "run", probe=False)


def recipe(base: Path, folder: Path, *, run: dict[str, Any] | None = None, **parts: Any) -> Recipe:
    tree = {"base": str(base), "data": {"train": str(write_chats(folder / "rows.jsonl"))}, "run": run or {}, **parts}
    return Recipe.model_validate(tree)


def told(made: Plan) -> dict[str, Any]:
    return {value.name: value for value in made.values}


def test_a_method_that_is_left_open_is_chosen_and_said(base: Path, tmp_path: Path) -> None:
    made = planned(base, tmp_path, method="auto", run={"epochs": "auto"})
    assert made.refusals == ()
    assert (told(made)["method"].value, told(made)["rank"].value, told(made)["epochs"].value) == ("lora", 8, 10)
    assert made.as_json()["method"]["rank"] == 8
    assert made.steps == 80


def test_where_memory_is_short_four_bits_are_chosen(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Machine, "look", classmethod(lambda cls, folder: Machine(2, GB, 10**12)))
    made = planned(base, tmp_path, method="auto")
    assert told(made)["method"].value == "qlora"
    assert [fault.code for fault in made.refusals] == ["plan/memory-too-small"]


def test_an_open_method_has_no_options() -> None:
    with pytest.raises(RecipeError) as error:
        Recipe.from_text("base: x\ndata: {train: y}\nmethod: {kind: auto, rank: 8}\n")
    assert error.value.faults[0].code == "recipe/conflict"


def test_what_was_chosen_is_tuned_and_the_same_recipe_finds_its_run(base: Path, tmp_path: Path) -> None:
    asked = recipe(base, tmp_path, method="auto", run={"epochs": 2, "learning_rate": 1e-2})
    run = tune(asked, into=tmp_path / "run")
    assert json.loads((run.folder / "adapter" / "adapter_config.json").read_text())["r"] == 8
    assert "with lora" in (run.folder / "README.md").read_text()
    assert Recipe.read(run.folder / "recipe.yaml") == asked
    before = (run.folder / "manifest.json").stat().st_mtime_ns
    assert (tune(asked, into=tmp_path / "run").folder / "manifest.json").stat().st_mtime_ns == before


def test_an_unfinished_run_keeps_its_method_where_the_machine_is_another(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps({"method": {"kind": "qlora", "rank": 4}}))
    made = planned(base, tmp_path, method="auto")
    assert made.as_json()["method"]["kind"] == "qlora"
    assert told(made)["method"].why == "as the run in this folder began"


def test_the_longest_row_is_the_limit_and_what_is_longer_is_counted(base: Path, tmp_path: Path) -> None:
    made = planned(base, tmp_path)
    longest = max(length for length, _ in made.ready.lengths)
    assert told(made)["max_length"].value == longest
    assert told(made)["max_length"].why == "the longest of 8 rows; none is over the model's 512"
    write_chats(tmp_path / "long.jsonl", {"short": "one", "long": "fox " * 600})
    data = {"train": str(tmp_path / "long.jsonl")}
    made = plan(recipe(base, tmp_path).model_copy(update={"data": recipe(base, tmp_path).data.model_validate(data)}))
    assert [fault.code for fault in made.refusals] == ["data/too-long"]
    assert told(made)["max_length"].why == "the model's context; 50% of the rows are longer"
