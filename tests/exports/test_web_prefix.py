"""A prefix in the web export: its keys and values stand in the graph, and each runtime answers as torch does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import needs
from tiny.learnt import ANSWERS, save_learnt
from tunesmith.artifact import Export, Model
from tunesmith.exports import _onnx_graph
from tunesmith.exports.safetensors import Safetensors
from tunesmith.exports.web import Web
from tunesmith.machine import Machine
from tunesmith.methods.prefix import Prefix
from tunesmith.runtimes.onnxruntime import OnnxRuntime
from tunesmith.runtimes.torch import open_folder
from tunesmith.runtimes.transformers_js import TransformersJs
from tunesmith.text.template import Text
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load
from tunesmith.weights.save import save

DTYPES = ("fp32", "fp16", "q8", "q4")
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "gemma3_text": {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
}
each = pytest.mark.parametrize(
    "family", ["llama", *(pytest.param(name, marks=pytest.mark.slow) for name in ("qwen3", "gemma3_text"))]
)
ASKS = [
    [{"role": "user", "content": question}] for question in (*ANSWERS, "naïve 東京 🙂 and more than a window holds")
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path, Export]]:
    """Of a family: the base, a model with a prefix that has moved by a good deal, and its web export."""
    made: dict[str, tuple[Path, Path, Export]] = {}

    def of(family: str) -> tuple[Path, Path, Export]:
        needs.need_node()
        if family not in made:
            folder = tmp_path_factory.mktemp(family)
            base = save_learnt(folder / "base", family, **FAMILIES[family])
            torch.manual_seed(0)
            model: Any = Prefix(length=6).wrap(load(base), BaseFacts.read(base))
            with torch.no_grad():
                for weight in model.prefix.parameters():
                    weight += 0.3 * torch.randn_like(weight)
            save(Prefix().settle(model), base, folder / "model")
            (folder / "web").mkdir()
            web = Web(dtypes=DTYPES).write(Model.of(folder / "model"), {}, folder / "web")
            made[family] = base, folder / "model", web
        return made[family]

    return of


@each
def test_onnx_runtime_computes_what_torch_computes(family: str, exported: Any) -> None:
    base, model, web = exported(family)
    text = Text.read(model)
    with open_folder(model, text) as torch_, open_folder(base, text) as plain:
        for variant, bound in (("fp32", 1e-4), ("fp16", 5e-2), ("q8", 5e-2)):
            with OnnxRuntime().open(web, variant, text) as onnx:
                for ask in ASKS:
                    prompt = text.prompt(ask)
                    wanted, seen = torch_.logprobs(prompt, 10), onnx.logprobs(prompt, 10_000)
                    assert max(abs(value - seen[token]) for token, value in wanted.items()) < bound
                    if variant == "fp32":
                        assert onnx.answer(ask, 20).text == torch_.answer(ask, 20).text
        prompt = text.prompt(ASKS[-1])
        own, seen = plain.logprobs(prompt, 10), torch_.logprobs(prompt, 10_000)
        assert max(abs(value - seen[token]) for token, value in own.items()) > 0.1, "the prefix does something"


@each
def test_rounded_weights_stay_within_their_limits(family: str, exported: Any) -> None:
    _, _, web = exported(family)
    for dtype in ("q8", "q4"):
        about = web.variants[dtype].about
        assert about["kl"] <= about["limit"]
    assert web.variants["fp32"].about["kl"] < 1e-6


@each
def test_transformers_js_answers_as_torch_does_and_needs_nothing_new(family: str, exported: Any) -> None:
    _, model, web = exported(family)
    text = Text.read(model)
    with open_folder(model, text) as torch_:
        for variant in ("fp32", "q4"):
            with TransformersJs().open(web, variant, text) as js:
                for ask in ASKS:
                    prompt = text.prompt(ask)
                    wanted, seen = torch_.logprobs(prompt, 10), js.logprobs(prompt, 10_000)
                    bound = 1e-4 if variant == "fp32" else 1.0
                    assert max(abs(value - seen[token]) for token, value in wanted.items()) < bound
                    if variant == "fp32":
                        assert js.answer(ask, 20).text == torch_.answer(ask, 20).text


def test_the_cache_of_the_graph_is_that_of_the_tokens(exported: Any) -> None:
    import onnx

    from tunesmith.exports._onnx_session import run, session

    _, _, web = exported("llama")
    graph = onnx.load(web.variants["fp32"].path, load_external_data=False).graph
    inputs = {one.name for one in graph.input}
    cache = {f"past_key_values.{layer}.{part}" for layer in (0, 1) for part in ("key", "value")}
    assert inputs == cache | {"input_ids", "attention_mask", "position_ids", "num_logits_to_keep"}
    made = run(session(web.variants["fp32"].path), (5, 6, 7, 8), keep=1)
    assert made["past_key_values.0.key"].shape == (1, 2, 4, 16)


def test_a_padded_batch_gives_each_row_what_it_gets_alone_wherever_counting_begins(exported: Any) -> None:
    import numpy as np

    from tunesmith.exports._onnx_session import empty_cache, run, session

    _, _, web = exported("llama")
    one = session(web.variants["fp32"].path)
    cache = {name: np.repeat(value, 2, 0) for name, value in empty_cache(one).items()}
    feeds = {
        **cache,
        "input_ids": np.array([[0, 0, 9, 4], [5, 6, 7, 8]]),
        "attention_mask": np.array([[0, 0, 1, 1], [1, 1, 1, 1]]),
        "position_ids": np.array([[1, 1, 1, 2], [1, 2, 3, 4]]),  # as Transformers.js counts Gemma's
        "num_logits_to_keep": np.array(1),
    }
    both = one.run(["logits"], feeds)[0]
    for row, ids in enumerate([(9, 4), (5, 6, 7, 8)]):
        assert np.allclose(both[row, 0], run(one, ids)["logits"][0, 0], atol=1e-4)


def test_a_prefix_of_another_length_is_another_graph(exported: Any, tmp_path: Path) -> None:
    base, model, _ = exported("llama")
    longer: Any = Prefix(length=7).wrap(load(base), BaseFacts.read(base))
    save(Prefix().settle(longer), base, tmp_path)
    hashes = {_onnx_graph._shape_hash(folder) for folder in (base, model, tmp_path)}
    assert len(hashes) == 3


def test_files_that_have_no_place_for_it_are_refused(exported: Any) -> None:
    _, model, _ = exported("llama")
    facts = BaseFacts.read(model)
    machine = Machine(2, 1 << 33, 1 << 33)
    assert [fault.code for fault in Safetensors().refuse(facts, machine)] == ["export/additions"]
    assert [fault.code for fault in Web().refuse(facts, machine)] == []
    delivers = Prefix().delivers(facts)
    assert {name: one.kind for name, one in delivers.items()} == {
        "safetensors": "refused",
        "gguf": "refused",
        "ollama": "refused",
        "web": "exact",
    }
    assert {one.instead for one in delivers.values() if one.kind == "refused"} == {"prompt"}
    assert json.loads((model / "additions.json").read_text())["kind"] == "prefix"
