"""`export` of a run: its recipe's own options count, whichever way its exports are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny.models import save
from tiny.rows import write_chats
from tunesmith.artifact import Run
from tunesmith.cli import main
from tunesmith.errors import ArtifactError
from tunesmith.recipe import Recipe
from tunesmith.verbs.export import export, wanted
from tunesmith.verbs.tune import tune

EXPORTS = [{"kind": "gguf", "types": ["f32"]}, {"kind": "ollama", "create": False}]


@pytest.fixture
def tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    base = save(tmp_path / "base", initializer_range=0.15)
    write_chats(tmp_path / "rows.jsonl")
    options = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-2}
    tree = {"base": str(base), "data": {"train": "rows.jsonl"}, "run": options, "export": EXPORTS}
    return tune(Recipe.model_validate(tree), into=Path("run"))


def test_a_named_export_and_what_it_needs_have_the_options_of_the_recipe(tuned: Run) -> None:
    made = export(tuned, to=["ollama"])
    assert {kind: list(one.variants) for kind, one in made.items()} == {"gguf": ["f32"], "ollama": ["f32"]}
    assert made["ollama"].about["created"] is False


def test_without_names_the_recipe_names_them(tuned: Run) -> None:
    assert main(["export", str(tuned.folder), "--quiet"]) == 0
    assert list(tuned.exports) == ["gguf", "ollama"]
    assert list(tuned.exports["gguf"].variants) == ["f32"]


def test_a_run_is_not_exported_into_another_run(tuned: Run) -> None:
    other = Path("other")
    other.mkdir()
    (other / "recipe.yaml").write_text("base: x\ndata: {train: y.jsonl}\n")
    with pytest.raises(ArtifactError, match="artifact/other-source"):
        export(tuned, to=["safetensors"], into=other)
    made = export(tuned, to=["safetensors"], into=Path("elsewhere"))
    assert made["safetensors"].folder == Path("elsewhere/exports/safetensors")
    assert list(export("elsewhere", to=["safetensors"])) == ["safetensors"]  # it knows whose exports it holds


def test_what_is_needed_comes_from_the_words_then_the_recipe_then_what_is_there() -> None:
    from tunesmith.exports.gguf import Gguf

    asked, own, there = (Gguf(types=(kind,)) for kind in ("f32", "f16", "bf16"))
    for to, known, standing, types in (
        ([asked, "ollama"], {"gguf": own}, {"gguf": there}, ("f32",)),
        (["ollama"], {"gguf": own}, {"gguf": there}, ("f16",)),
        (["ollama"], {}, {"gguf": there}, ("bf16",)),
        (["ollama"], {}, {}, ("f16", "q8_0")),
        (["gguf"], {}, {"gguf": there}, ("f16", "q8_0")),
    ):
        assert wanted(to, known, standing)[0].types == types
