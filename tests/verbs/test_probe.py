"""The time of a plan is told from real steps of slices of the base, once for each kind of run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tiny.models import save
from tiny.rows import write_chats
from tunesmith import rooms
from tunesmith.learn import pace
from tunesmith.recipe import Recipe
from tunesmith.verbs import _probe
from tunesmith.verbs.plan import Plan, plan
from tunesmith.verbs.tune import tune

SMALL: dict[str, dict[str, Any]] = {"lora": {"rank": 4}, "qlora": {"rank": 4}, "freeze": {"layers": 2}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"), num_hidden_layers=6)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a machine on which nothing else runs."""
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(_probe, "is_busy", lambda machine: False)
    return tmp_path / "cache" / "tunesmith" / "pace"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The slices that are measured."""
    found: list[tuple[int, int]] = []
    real = pace.see

    def see(*parts: Any, **more: Any) -> Any:
        found.append(more["layers"])
        return real(*parts, **more)

    monkeypatch.setattr(pace, "see", see)
    return found


def recipe(base: Path, folder: Path, kind: str = "lora", epochs: float = 2, **more: Any) -> Recipe:
    data = write_chats(folder / "rows.jsonl")
    method = {"kind": kind, **SMALL.get(kind, {}), **more}
    tree = {"base": str(base), "data": {"train": str(data), "test": 0.25}, "method": method}
    return Recipe.model_validate({**tree, "run": {"epochs": epochs, "batch_size": 2}})


def why(planned: Plan) -> str:
    return next(str(one.why) for one in planned.values if one.name == "seconds")


@pytest.mark.parametrize("kind", rooms.names("methods"))
def test_real_steps_of_every_method_tell_its_pace(
    kind: str, base: Path, tmp_path: Path, seen: list[tuple[int, int]]
) -> None:
    planned = plan(recipe(base, tmp_path, kind), into=tmp_path / "run")
    assert planned.refusals == ()
    assert "measured here" in why(planned), why(planned)
    assert planned.pace is not None
    assert planned.pace.first > 0
    assert planned.pace.held_out > 0
    assert planned.pace.checkpoint > 0
    # Two of the six layers move with freeze, and four go forward only; there is time for all of them.
    assert seen == ([(1, 1), (1, 2), (4, 1)] if kind == "freeze" else [(0, 2), (0, 6)])
    assert planned.as_json()["probe"]["layers"] == tuple(below + above for below, above in seen)


@pytest.mark.parametrize("short", ["SECONDS", "ROOM"])
def test_without_time_or_room_the_larger_slice_is_small(
    short: str, base: Path, tmp_path: Path, seen: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_probe, short, 1e-9)
    planned = plan(recipe(base, tmp_path), into=tmp_path / "run")
    assert seen == [(0, 2), (0, 4)]
    assert "2 and 4 layers" in why(planned)


def test_a_second_plan_takes_what_the_first_one_found(
    base: Path, tmp_path: Path, home: Path, seen: list[tuple[int, int]]
) -> None:
    first = plan(recipe(base, tmp_path), into=tmp_path / "run")
    (kept,) = home.glob("*.json")
    assert json.loads(kept.read_text())["of"]["method"]["rank"] == 4
    n_seen = len(seen)
    second = plan(recipe(base, tmp_path), into=tmp_path / "run")
    assert len(seen) == n_seen
    assert second.pace == first.pace
    assert second.seconds == first.seconds


def test_more_epochs_are_the_same_pace_and_another_method_is_not(
    base: Path, tmp_path: Path, seen: list[tuple[int, int]]
) -> None:
    once = plan(recipe(base, tmp_path, epochs=2), into=tmp_path / "run")
    n_seen = len(seen)
    twice = plan(recipe(base, tmp_path, epochs=4), into=tmp_path / "run")
    assert len(seen) == n_seen
    assert twice.seconds > once.seconds
    plan(recipe(base, tmp_path, rank=2), into=tmp_path / "run")
    assert len(seen) == 2 * n_seen


def test_without_a_probe_nothing_is_measured_and_nothing_that_was_is_taken(
    base: Path, tmp_path: Path, home: Path, seen: list[tuple[int, int]]
) -> None:
    planned = plan(recipe(base, tmp_path), into=tmp_path / "run", probe=False)
    assert seen == []
    assert not home.exists()
    assert planned.pace is None
    assert why(planned).endswith("an estimate")
    assert planned.as_json()["probe"] is None


def test_tuning_measures_nothing_and_takes_what_a_plan_has_found(
    base: Path, tmp_path: Path, seen: list[tuple[int, int]]
) -> None:
    asked = recipe(base, tmp_path)
    tune(asked, into=tmp_path / "one")
    assert seen == []
    planned = plan(asked, into=tmp_path / "other")
    n_seen = len(seen)
    run = tune(asked, into=tmp_path / "two")
    assert len(seen) == n_seen
    assert json.loads((run.folder / "plan.json").read_text())["probe"]["first"] == planned.as_json()["probe"]["first"]


def test_what_is_measured_beside_other_work_is_said_so_and_not_kept(
    base: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_probe, "is_busy", lambda machine: True)
    planned = plan(recipe(base, tmp_path), into=tmp_path / "run")
    assert why(planned).endswith("other work stood beside it, so it is not kept")
    assert not home.exists()


def test_a_probe_that_fails_leaves_the_estimate_and_says_why(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such kernel\nmore of it")

    monkeypatch.setattr(pace, "see", fails)
    planned = plan(recipe(base, tmp_path), into=tmp_path / "run")
    assert planned.refusals == ()
    assert why(planned).endswith("an estimate; it could not be measured here: no such kernel")
    assert planned.seconds > 0


def test_a_slice_never_takes_more_memory_than_the_run(base: Path, tmp_path: Path, seen: list[tuple[int, int]]) -> None:
    planned = plan(recipe(base, tmp_path), into=tmp_path / "run", probe=False)
    from tunesmith.learn import levers

    assert planned.ready.settings is not None
    work = levers.Work.of(planned.ready.rows, planned.ready.settings, None)
    found, told = _probe.probe(planned.ready, work, seconds=1.0, memory_bytes=10**6)
    assert (found, told) == (None, "a slice would take more memory than the run")
    assert seen == []


def test_nothing_is_measured_for_a_run_that_is_refused(base: Path, tmp_path: Path, seen: list[tuple[int, int]]) -> None:
    planned = plan(recipe(base, tmp_path, targets=["nothing"]), into=tmp_path / "run")
    assert planned.refusals
    assert seen == []


def test_no_weight_of_the_base_is_loaded(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.weights.load.load", None)
    assert plan(recipe(base, tmp_path), into=tmp_path / "run").pace is not None


def test_a_slice_has_the_layers_that_were_named_and_the_words_of_the_base(tmp_path: Path) -> None:
    from tunesmith.weights import slices
    from tunesmith.weights.facts import BaseFacts

    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    whole = BaseFacts.read(save(tmp_path / "base", "gemma3_text", num_hidden_layers=3, layer_types=kinds))
    part = slices.sliced(whole, (0, 2), tmp_path / "part")
    assert part.n_layers == 2
    assert part.text_config["layer_types"] == ["sliding_attention", "full_attention"]
    assert part.next_token == whole.next_token
    import torch

    model = slices.made_up(part.folder, torch.float32)
    spread = model.get_input_embeddings().weight.std()
    assert 0.01 < float(spread.detach()) < 0.03


def test_freeze_means_the_same_layers_in_a_slice(base: Path) -> None:
    from tunesmith.methods.freeze import Freeze
    from tunesmith.weights.facts import BaseFacts

    facts = BaseFacts.read(base)
    assert Freeze(layers=2).on_layers(facts, (0, 3, 4, 5)).layers == (2, 3)
    assert Freeze(layers=(0, -1)).on_layers(facts, (0, 2, 5)).layers == (0, 2)


def test_a_price_is_that_of_the_time(base: Path, tmp_path: Path) -> None:
    planned = plan(recipe(base, tmp_path), into=tmp_path / "run", probe=False, price_per_hour="7200 EUR")
    assert planned.price is not None
    tree = planned.as_json()["price"]
    assert tree == {"per_hour": 7200.0, "currency": "EUR", "total": round(2 * planned.seconds, 2)}
    assert replace(planned.price, currency="").in_words(0.3) == "0.30"
