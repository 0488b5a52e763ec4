"""Bottleneck adapters where people use them: as neurons in llama.cpp, and as layers of the graph of the web export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import needs
from tiny import models
from tiny.learnt import ANSWERS
from tunesmith.artifact import Export, Model
from tunesmith.exports import _onnx_graph
from tunesmith.exports.gguf import Gguf
from tunesmith.exports.web import Web
from tunesmith.methods.adapter import Adapter
from tunesmith.runtimes.llama_cpp import LlamaCpp
from tunesmith.runtimes.onnxruntime import OnnxRuntime
from tunesmith.runtimes.torch import open_folder
from tunesmith.runtimes.transformers_js import TransformersJs
from tunesmith.text.template import Text
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load
from tunesmith.weights.save import save

ASKS: Sequence[Any] = [
    [{"role": "user", "content": question}] for question in (*ANSWERS, "naïve 東京 🙂 2 ** 3 and some more words")
]
FAMILIES = ["llama", *(pytest.param(name, marks=pytest.mark.slow) for name in ("qwen3", "gemma3_text", "mistral"))]
FLOAT32 = {"gemma3_text": 5e-3}  # llama.cpp looks its gelu up in a table of float16
ROUNDED = {"q8_0": 0.5, "q8": 0.1}  # nats that rounding may move a log-probability by; it moves the base as far


def tuned(base: Path, into: Path, method: Adapter) -> Path:
    """The folder of a base with adapters that have moved by a good deal."""
    torch.manual_seed(0)
    model = method.wrap(load(base), BaseFacts.read(base))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.15 * torch.randn_like(weight)
    save(method.settle(model), base, into)
    return into


def furthest(opened: Any, reference: Any, text: Text, *, answers: bool) -> float:
    """The largest difference of a log-probability over the reference's ten likeliest tokens after each of `ASKS`."""
    worst = 0.0
    for ask in ASKS:
        prompt = text.prompt(ask)
        wanted, seen = reference.logprobs(prompt, 10), opened.logprobs(prompt, 500)
        worst = max([worst, *(abs(value - seen[token]) for token, value in wanted.items())])
        if answers:
            assert opened.answer(ask, 16).text == reference.answer(ask, 16).text
    return worst


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_computes_the_neurons_that_adapters_became(family: str, learnt_model: Path, tmp_path: Path) -> None:
    base = learnt_model if family == "llama" else models.save(tmp_path / "base", family, initializer_range=0.15)
    model = tuned(base, tmp_path / "model", Adapter(size=24, scale=2.0))
    (tmp_path / "gguf").mkdir()
    export = Gguf(types=("f32", "q8_0")).write(Model.of(model), {}, tmp_path / "gguf")
    text = Text.read(model)
    with open_folder(model, text) as reference, open_folder(base, text) as plain:
        assert furthest(reference, plain, text, answers=False) > 1.0, "the adapters do something"
        for variant, bound in (("f32", FLOAT32.get(family, 1e-3)), ("q8_0", ROUNDED["q8_0"])):
            with LlamaCpp().open(export, variant, text) as opened:
                assert furthest(opened, reference, text, answers=variant == "f32") < bound, variant


@pytest.fixture(scope="module")
def web(learnt_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Export]:
    """A base, a model with layers behind attention and MLP, and its web export."""
    needs.need_node()
    folder = tmp_path_factory.mktemp("web")
    model = tuned(learnt_model, folder / "model", Adapter(form="houlsby", size=32, scale=2.0))
    (folder / "web").mkdir()
    return learnt_model, model, Web(dtypes=("fp32", "q8", "q4")).write(Model.of(model), {}, folder / "web")


@pytest.mark.parametrize("runtime", [OnnxRuntime(), TransformersJs()])
@pytest.mark.parametrize(("variant", "bound"), [("fp32", 1e-4), ("q8", ROUNDED["q8"])])
def test_layers_behind_sub_layers_are_part_of_the_graph(
    variant: str, bound: float, runtime: Any, web: tuple[Path, Path, Export]
) -> None:
    base, model, export = web
    text = Text.read(model)
    with open_folder(model, text) as reference, open_folder(base, text) as plain:
        assert furthest(reference, plain, text, answers=False) > 1.0, "the adapters do something"
        with runtime.open(export, variant, text) as opened:
            assert furthest(opened, reference, text, answers=variant == "fp32") < bound


def test_rounded_layers_are_within_the_limit_of_their_type(web: tuple[Path, Path, Export]) -> None:
    for variant in web[2].variants.values():
        assert variant.about["kl"] <= variant.about.get("limit", 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "gemma3_text", "mistral"])
@pytest.mark.parametrize("form", ["houlsby", "pfeiffer"])
def test_graphs_of_other_families_compute_what_torch_computes(form: Any, family: str, tmp_path: Path) -> None:
    needs.need_node()
    base = models.save(tmp_path / "base", family, initializer_range=0.15)
    model = tuned(base, tmp_path / "model", Adapter(form=form, size=32, activation="gelu"))
    (tmp_path / "web").mkdir()
    export = Web(dtypes=("fp32",)).write(Model.of(model), {}, tmp_path / "web")
    text = Text.read(model)
    with open_folder(model, text) as reference, OnnxRuntime().open(export, "fp32", text) as opened:
        assert furthest(opened, reference, text, answers=True) < 1e-4


def test_adapters_of_another_size_or_activation_are_another_graph(
    web: tuple[Path, Path, Export], tmp_path: Path
) -> None:
    base, model, _ = web
    hashes = {_onnx_graph._shape_hash(model), _onnx_graph._shape_hash(base)}
    for at, method in enumerate((Adapter(form="houlsby", size=8), Adapter(form="houlsby", size=32, activation="silu"))):
        save(method.settle(method.wrap(load(base), BaseFacts.read(base))), base, tmp_path / str(at))
        hashes.add(_onnx_graph._shape_hash(tmp_path / str(at)))
    assert len(hashes) == 4
