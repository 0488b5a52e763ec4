"""What tuning, exports and checks would say later is said by the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tiny.models import save
from tiny.rows import write_chats
from tunesmith.recipe import Recipe
from tunesmith.runtimes._contract import Found
from tunesmith.runtimes.llama_cpp import LlamaCpp
from tunesmith.verbs.plan import Plan, plan
from tunesmith.verbs.tune import tune


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"), initializer_range=0.15)


def recipe(base: Path, folder: Path, **parts: Any) -> Recipe:
    data = {"train": str(write_chats(folder / "rows.jsonl"))}
    return Recipe.model_validate(
        {"base": str(base), "data": data, "run": {"epochs": 1, "learning_rate": 1e-2}, **parts}
    )


def gaps(planned: Plan) -> list[str]:
    return [gap.what for gap in planned.gaps]


def test_where_nothing_lacks_nothing_is_said(base: Path, tmp_path: Path) -> None:
    planned = plan(recipe(base, tmp_path, export=["safetensors"]), into=tmp_path / "run", probe=False)
    assert planned.gaps == ()
    assert planned.as_json()["gaps"] == []


def test_a_runtime_that_is_not_here_is_named_with_the_way_to_get_it(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LlamaCpp, "present", lambda self: Found(False, get="pip install it"))
    planned = plan(recipe(base, tmp_path, export=["gguf"]), into=tmp_path / "run", probe=False)
    assert planned.refusals == ()
    (gap,) = planned.gaps
    assert (gap.what, gap.get) == (
        "llama_cpp is not here: what gguf writes will not be checked in it",
        "pip install it",
    )


def test_a_server_that_does_not_answer_is_a_gap_and_no_refusal(base: Path, tmp_path: Path) -> None:
    planned = plan(recipe(base, tmp_path, export=["ollama"]), into=tmp_path / "run", probe=False)
    assert planned.refusals == ()
    assert "ollama is not here: what ollama writes will not be checked in it" in gaps(planned)


def test_a_base_without_weights_is_named(tmp_path: Path) -> None:
    bare = save(tmp_path / "base")
    (bare / "model.safetensors").unlink()
    planned = plan(recipe(bare, tmp_path), into=tmp_path / "run", probe=False)
    assert gaps(planned) == [f"{bare} has no .safetensors file, and tuning will not begin without the base's weights"]


def test_what_stands_in_the_folder_is_named_unless_it_is_this_run(base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    asked = recipe(base, tmp_path)
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert gaps(plan(asked, into=folder, probe=False)) == [
        f"{folder} holds something else, and tuning will not begin there"
    ]
    (folder / "notes.txt").unlink()
    tune(asked, into=folder)
    assert plan(asked, into=folder, probe=False).gaps == ()
    other = recipe(base, tmp_path, method={"kind": "lora", "rank": 2})
    assert gaps(plan(other, into=folder, probe=False)) == [
        f"{folder} holds a run of another recipe or other data, and this one will not begin there"
    ]


def test_a_type_that_no_export_makes_is_refused_before_tuning(base: Path, tmp_path: Path) -> None:
    exports = [{"kind": "gguf", "types": ["f16"]}, {"kind": "ollama", "type": "q8_0"}]
    planned = plan(recipe(base, tmp_path, export=exports), into=tmp_path / "run", probe=False)
    assert [fault.code for fault in planned.refusals] == ["export/no-such-type"]
