from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny.families import DATED
from tiny.models import save
from tiny.rows import write_chats
from tunesmith import files
from tunesmith.artifact import Run
from tunesmith.errors import ArtifactError, LearnError, PlanError
from tunesmith.recipe import Recipe
from tunesmith.verbs.tune import _named, tune


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"), initializer_range=0.15)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.chdir(tmp_path)
    write_chats(tmp_path / "rows.jsonl")
    torch.set_num_threads(1)


def recipe(base: Path, **parts: Any) -> Recipe:
    options = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-2}
    tree = {"base": str(base), "data": {"train": "rows.jsonl", "test": 0.25}, "run": options, **parts}
    return Recipe.model_validate(tree)


def learnt(run: Run) -> bytes:
    return (run.folder / "model" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_a_run_leaves_what_the_house_promises(kind: str, base: Path) -> None:
    told = recipe(base, method=kind)
    run = tune(told)
    assert run.folder == Path("runs") / f"rows-{base.name}-{kind}"
    there = {path.name for path in run.folder.iterdir() if not path.name.startswith(".")}
    assert there >= {"manifest.json", "recipe.yaml", "plan.json", "metrics.jsonl", "loss.svg", "model", "README.md"}
    assert "checkpoints" not in there
    assert (run.adapter is not None) == (kind == "lora")
    assert run.recipe == told
    assert run.manifest is not None
    about = run.manifest.about
    assert about["settled_gap"] <= 1e-4 < about["moved"]
    assert about["steps"] == 4
    model = run.model.folder
    assert (model / "chat_template.jinja").read_text() == (base / "chat_template.jinja").read_text()


def test_the_adapter_is_as_peft_leaves_it_and_merges_to_the_model(base: Path) -> None:
    from tunesmith.learn.agree import gap, logprobs
    from tunesmith.weights.load import load
    from tunesmith.weights.merge import base_for, merged, put_on

    run = tune(recipe(base))
    assert run.adapter is not None
    config = json.loads((run.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base)
    plain = merged(put_on(base_for(base, run.adapter), run.adapter), run.adapter)
    asked = [(3, 8, 40, 17)]
    assert gap(logprobs(plain, asked), logprobs(load(run.model.folder), asked)) < 1e-5


def test_a_run_that_is_done_is_kept(base: Path) -> None:
    run = tune(recipe(base))
    stamp = (run.folder / "manifest.json").stat().st_mtime_ns
    assert tune(recipe(base)) == run
    assert (run.folder / "manifest.json").stat().st_mtime_ns == stamp


def test_other_exports_are_the_same_run(base: Path) -> None:
    run = tune(recipe(base))
    stamp = (run.folder / "manifest.json").stat().st_mtime_ns
    assert tune(recipe(base, export=["safetensors"])).folder == run.folder
    assert (run.folder / "manifest.json").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("what", ["recipe", "data"])
def test_a_folder_of_another_run_is_not_written_over(what: str, base: Path) -> None:
    run = tune(recipe(base))
    before = learnt(run)
    other = recipe(base, run={"epochs": 1}) if what == "recipe" else recipe(base)
    if what == "data":
        write_chats(Path("rows.jsonl"), {"red": "dog", "blue": "fox", "one": "three", "two": "five"})
    with pytest.raises(ArtifactError, match=f"artifact/other-recipe.*the {what} differs"):
        tune(other, into=run.folder, resume=True)
    assert learnt(run) == before
    fresh = tune(other, into=run.folder, fresh=True)
    assert learnt(fresh) != before
    assert learnt(Run(run.folder.with_name(f"{run.folder.name}.old-1"))) == before


def test_a_folder_that_is_no_run_is_not_written_into(base: Path) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("all I have")
    with pytest.raises(ArtifactError, match="artifact/not-a-run"):
        tune(recipe(base), into=Path("mine"))
    assert [path.name for path in Path("mine").iterdir()] == ["thesis.txt"]


def test_a_recipe_alone_makes_a_folder_no_run_and_keeps_its_comments(base: Path) -> None:
    Path("voice").mkdir()
    Path("voice/recipe.yaml").write_text("# why this base: ...\n")
    for fresh in ({}, {"resume": True}):
        with pytest.raises(ArtifactError, match="artifact/not-a-run"):
            tune(recipe(base), into=Path("voice"), **fresh)
    assert Path("voice/recipe.yaml").read_text() == "# why this base: ...\n"


def test_a_card_that_was_edited_leaves_the_run_done_and_is_kept(base: Path) -> None:
    run = tune(recipe(base))
    (run.folder / "README.md").write_text("my words")
    (run.folder / "exports").mkdir()
    (run.folder / "exports" / "more.txt").write_text("x")
    assert run.manifest is not None
    assert not [name for name in run.manifest.files if name.startswith(("README", "exports"))]
    (run.folder / "manifest.json").unlink()
    again = tune(recipe(base), resume=True)
    assert (again.folder / "README.md").read_text() == "my words"
    assert again.manifest is not None
    assert set(again.manifest.files) == set(run.manifest.files if run.manifest else ())


def test_the_same_rows_under_another_name_or_in_smaller_batches_are_the_same_run(base: Path) -> None:
    run = tune(recipe(base), into=Path("run"))
    stamp = (run.folder / "manifest.json").stat().st_mtime_ns
    options = {"epochs": 2, "batch_size": 2, "gradient_accumulation_steps": 2, "learning_rate": 1e-2}
    tune(recipe(base, data={"train": "./rows.jsonl", "test": 0.25}), into=Path("run"))
    tune(recipe(base, run=options), into=Path("run"))  # four rows a step, as twice two
    assert (run.folder / "manifest.json").stat().st_mtime_ns == stamp


def test_an_adapter_names_a_hub_model_and_its_revision_apart(base: Path) -> None:
    assert _named("org/name@v1.0") == ("org/name", "v1.0")
    assert _named("org/name") == ("org/name", None)
    assert _named("./a@b") == ("./a@b", None)


@pytest.mark.parametrize("kind", ["lora", "prompt", "ptuning"])
def test_what_peft_reads_has_the_revision_of_the_base(kind: str, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.verbs.tune._named", lambda base: ("org/name", "v1.0"))
    run = tune(recipe(base, method=kind))
    config = json.loads((run.folder / "adapter" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/name", "v1.0")


def test_several_processes_are_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LearnError, match="learn/several-processes"):
        tune(recipe(base))
    assert not Path("runs").exists()


def test_the_folder_a_command_is_typed_in_is_not_moved(base: Path) -> None:
    with pytest.raises(ArtifactError, match="artifact/current-folder"):
        tune(recipe(base), into=Path(), fresh=True)
    assert Path("rows.jsonl").is_file()


def test_two_runs_in_one_folder_at_once_are_refused(base: Path) -> None:
    with files.locked(Path("busy")), pytest.raises(ArtifactError, match="files/in-use"):
        tune(recipe(base), into=Path("busy"))


def test_what_is_refused_makes_no_folder(base: Path) -> None:
    with pytest.raises(PlanError, match="method/unknown-target"):
        tune(recipe(base, method={"kind": "lora", "targets": ["nonsense"]}), into=Path("refused"))
    assert not Path("refused").exists()


def test_a_base_without_weights_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "bare")
    (folder / "model.safetensors").unlink()
    with pytest.raises(Exception, match=r"plan/no-weights|source/") as error:
        tune(recipe(folder))
    assert getattr(error.value, "faults", ())


def break_off(base: Path, folder: Path, after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that dies at a place, as a kill would have it."""

    def dies(*args: object, **named: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(after, dies)
        with pytest.raises(MemoryError):
            tune(recipe(base), into=folder)


@pytest.mark.parametrize(
    "place",
    [
        "tunesmith.learn.loop._ended",
        "tunesmith.learn.agree.probes",
        "tunesmith.weights.save.copy_words",
        "tunesmith.verbs.tune.card",
        "tunesmith.verbs.tune.seal",
    ],
)
def test_a_run_that_was_broken_off_goes_on_to_the_same_model(
    place: str, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = tune(recipe(base), into=Path("straight"))
    break_off(base, Path("broken"), place, monkeypatch)
    assert Run(Path("broken")).manifest is None
    resumed = tune(recipe(base), into=Path("broken"), resume=True)
    assert resumed.manifest is not None
    assert learnt(resumed) == learnt(straight)


def test_a_run_whose_template_writes_the_date_goes_on_after_midnight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.utils import chat_template_utils

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Tomorrow:
            return cls(2099, 1, 1)

        @classmethod
        def today(cls) -> Tomorrow:
            return cls.now()

    base = save(tmp_path / "dated", template=DATED, initializer_range=0.15)
    straight = tune(recipe(base), into=Path("straight"))
    break_off(base, Path("broken"), "tunesmith.learn.loop._ended", monkeypatch)
    monkeypatch.setattr("tunesmith.verbs._ready.date", Tomorrow)
    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    assert learnt(tune(recipe(base), into=Path("broken"), resume=True)) == learnt(straight)
    assert learnt(tune(recipe(base), into=Path("later"))) != learnt(straight)


def test_an_unfinished_run_is_neither_lost_nor_silently_gone_on_with(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(base, Path("broken"), "tunesmith.learn.agree.probes", monkeypatch)
    with pytest.raises(ArtifactError, match="artifact/unfinished-run") as error:
        tune(recipe(base), into=Path("broken"))
    assert "--resume" in error.value.faults[0].fix
    assert "--fresh" in error.value.faults[0].fix
    tune(recipe(base), into=Path("broken"), fresh=True)
    assert (Path("broken.old-1") / "checkpoints").is_dir()


def test_a_damaged_model_is_made_again(base: Path) -> None:
    run = tune(recipe(base))
    before = learnt(run)
    (run.folder / "model" / "model.safetensors").write_bytes(before[:100])
    assert run.manifest is None
    assert learnt(tune(recipe(base), resume=True)) == before


@pytest.mark.parametrize("method", [{"kind": "lora"}, {"kind": "qlora"}], ids=str)
def test_a_rate_of_next_to_nothing_is_said_to_have_learnt_nothing(method: dict[str, Any], base: Path) -> None:
    """Also where the base itself is changed as the method is put on, and answers otherwise for that."""
    options = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-12}
    with pytest.raises(LearnError, match="learn/nothing-learnt"):
        tune(recipe(base, run=options, method=method))


def test_weights_that_answer_otherwise_than_what_was_trained_are_not_accepted(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.methods.lora import Lora

    right = Lora.settle

    def wrong(self: Lora, model: Any) -> Any:
        settled = right(self, model)
        settled.get_input_embeddings().weight.data *= 1.01
        return settled

    monkeypatch.setattr(Lora, "settle", wrong)
    with pytest.raises(LearnError, match="learn/settled-otherwise"):
        tune(recipe(base))
    assert not (Path("runs") / f"rows-{base.name}-lora" / "model").exists()


def test_raw_text_is_learnt_and_the_model_says_so(base: Path) -> None:
    Path("text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 30)
    run = tune(recipe(base, data={"train": "text.txt"}, objective="uft", run={"epochs": 1, "max_length": 64}))
    assert run.model.raw_text


def test_the_card_tells_how_it_went(base: Path) -> None:
    run = tune(recipe(base))
    text = (run.folder / "README.md").read_text()
    assert run.manifest is not None
    assert f"{run.manifest.about['held_out_loss']:.4f} nats" in text
    assert "loss.svg" in text
    assert f"| data, SHA-256 | {run.manifest.parents['data']} |" in text
    assert f"torch {torch.__version__.partition('+')[0]}" in text
    assert "\n## Limits\n" in text
    assert f"seen {run.manifest.about['rows']} rows of at most {run.manifest.about['longest']} tokens" in text
