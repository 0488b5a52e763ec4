"""`export` of a run: its recipe's own options count, whichever way its exports are named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiny.models import save
from tiny.rows import write_chats
from tunesmith.artifact import Export, Model, Run
from tunesmith.cli import main
from tunesmith.errors import ArtifactError, ExportError
from tunesmith.exports.gguf import Gguf, Type
from tunesmith.exports.ollama import Ollama
from tunesmith.exports.safetensors import Safetensors
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
    asked, own, there = (Gguf(types=(kind,)) for kind in ("f32", "f16", "bf16"))
    for to, known, standing, types in (
        ([asked, "ollama"], {"gguf": own}, {"gguf": there}, ("f32",)),
        (["ollama"], {"gguf": own}, {"gguf": there}, ("f16",)),
        (["ollama"], {}, {"gguf": there}, ("bf16",)),
        (["ollama"], {}, {}, ("f16", "q8_0")),
        (["gguf"], {}, {"gguf": there}, ("f16", "q8_0")),
    ):
        assert wanted(to, known, standing)[0].types == types


def test_the_converter_is_at_work_while_others_are_made(
    learnt_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_threads, seen = torch.get_num_threads(), list[int]()
    under_way: list[str] = []
    write = Safetensors.write

    def watched(self: Safetensors, model: Model, made: Mapping[str, Export], into: Path) -> Export:
        under_way.extend(one.name.rpartition("-")[2] for one in into.parent.iterdir() if one != into)
        seen.append(torch.get_num_threads())
        return write(self, model, made, into)

    monkeypatch.setattr(Safetensors, "write", watched)
    to = [Gguf(types=("f32",)), Ollama(create=False), Safetensors()]
    made = export(learnt_model, to=to, into=tmp_path / "run")
    assert under_way == ["gguf"]  # beside its place, where it is renamed to once it is whole
    assert list(made) == ["gguf", "ollama", "safetensors"]
    assert [*seen, torch.get_num_threads()] == [max(1, n_threads - 1), n_threads]
    assert sorted(one.name for one in (tmp_path / "run/exports").iterdir()) == ["gguf", "ollama", "safetensors"]


class InTwoParts(Safetensors):
    """Tells who is under way, and how many threads torch has, in its first and in its second part."""

    apart: ClassVar[bool] = False
    told: ClassVar[list[tuple[list[str], int]]] = []

    @contextmanager
    def begun(self, model: Model, into: Path) -> Iterator[Callable[[], Export]]:
        self.tell(into)

        def written() -> Export:
            self.tell(into)
            return self.write(model, {}, into)

        yield written

    def tell(self, into: Path) -> None:
        others = [one.name.rpartition("-")[2] for one in into.parent.iterdir() if one != into]
        self.told.append((others, torch.get_num_threads()))


def test_what_uses_all_cores_is_done_before_the_converter_takes_one(learnt_model: Path, tmp_path: Path) -> None:
    n_threads = torch.get_num_threads()
    InTwoParts.told.clear()
    made = export(learnt_model, to=[Gguf(types=("f32",)), InTwoParts()], into=tmp_path / "run")
    assert list(made) == ["gguf", "safetensors"]
    assert InTwoParts.told == [([], n_threads), (["gguf"], max(1, n_threads - 1))]


@pytest.mark.parametrize("types", [("f16",), ("f32",)], ids=["at once", "by the converter"])
def test_where_one_fails_the_others_are_made_and_its_fault_is_told(types: tuple[Type, ...], tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.1.mlp.down_proj.weight"
    if "f16" in types:
        weights[name][0, 0] = 1e6
    else:
        weights["model.layers.1.mlp.nobody.weight"] = weights.pop(name)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    to = [Gguf(types=types), Ollama(create=False), Safetensors()]
    with pytest.raises(ExportError) as caught:
        export(folder, to=to, into=tmp_path / "run")
    code = "export/beyond-float16" if "f16" in types else "export/converter-failed"
    assert [fault.code for fault in caught.value.faults] == [code]
    assert [one.name for one in (tmp_path / "run/exports").iterdir()] == ["safetensors"]
