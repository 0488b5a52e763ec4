"""The web export: what is refused, what the files say, and that the graphs compute what torch computes."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import needs
from tiny.learnt import ANSWERS, save_learnt
from tiny.models import save
from tunesmith import files
from tunesmith.artifact import Export, Model
from tunesmith.errors import ExportError
from tunesmith.exports import _onnx_graph
from tunesmith.exports.web import Web, known_types
from tunesmith.machine import Machine
from tunesmith.runtimes.onnxruntime import OnnxRuntime
from tunesmith.runtimes.torch import open_folder
from tunesmith.text.template import Text
from tunesmith.weights.facts import BaseFacts

MACHINE = Machine(2, 1 << 33, 1 << 33)
ASKS: list[Any] = [
    [{"role": "user", "content": question}] for question in ("Say hello.", "the lazy dog", "naïve 東京 🙂 2 ** 3")
]
EXACT = 1e-4  # nats: float32 sums in another order


def exported(model: Path, into: Path, **options: Any) -> Export:
    needs.need_node()
    into.mkdir(parents=True)
    return Web(**options).write(Model.of(model), {}, into)


@pytest.fixture
def web(learnt_web: Export) -> Export:
    return learnt_web


def codes(model: Path, **options: Any) -> list[str]:
    return [fault.code for fault in Web(**options).refuse(BaseFacts.read(model), MACHINE)]


def changed(model: Path, into: Path, **changes: Any) -> Path:
    """A folder of the same small files, with another config."""
    into.mkdir()
    config = json.loads((model / "config.json").read_text())
    (into / "config.json").write_text(json.dumps({**config, **changes}))
    return into


def furthest(model: Path, export: Export, variant: str) -> float:
    """The largest difference of a log-probability over the ten likeliest first tokens, and greedy answers if equal."""
    text = Text.read(model)
    worst = 0.0
    with open_folder(model, text) as torch, OnnxRuntime().open(export, variant, text) as onnx:
        for ask in ASKS:
            prompt = text.prompt(ask)
            assert tuple(onnx.tokens(onnx.render(ask))) == prompt.ids
            wanted, seen = torch.logprobs(prompt, 10), onnx.logprobs(prompt, 10_000)
            worst = max([worst, *(abs(value - seen[token]) for token, value in wanted.items())])
            if variant == "fp32":
                assert onnx.answer(ask, 16).text == torch.answer(ask, 16).text
    return worst


def test_float32_computes_what_torch_computes(learnt_model: Path, web: Export) -> None:
    assert furthest(learnt_model, web, "fp32") < EXACT


def test_float16_is_near_and_its_logits_are_float32(learnt_model: Path, web: Export) -> None:
    assert furthest(learnt_model, web, "fp16") < 0.05
    graph = graph_of(web, "fp16")
    types = {one.name: one.type.tensor_type.elem_type for one in [*graph.input, *graph.output]}
    assert types["logits"] == 1  # FLOAT
    assert types["past_key_values.0.key"] == types["present.0.key"] == 10  # FLOAT16


@pytest.mark.parametrize("dtype", ["q8", "q4", "q4f16"])
def test_rounded_weights_give_the_answers_learnt_and_say_how_far_they_are(web: Export, dtype: str) -> None:
    variant = web.variants[dtype]
    assert variant.label == "quantised"
    assert variant.about["kl"] <= variant.about["limit"]
    near = [one for one in variant.about["tried"] if one["kl"] <= variant.about["limit"]]
    assert variant.about["plan"] == min(near, key=lambda one: one["n_bytes"])["plan"]
    with OnnxRuntime().open(web, dtype, Text.read(web.folder / "model")) as onnx:
        answers = {question: onnx.answer([{"role": "user", "content": question}], 24) for question in ANSWERS}
    assert {question: answer.text for question, answer in answers.items()} == ANSWERS
    assert all(answer.stopped for answer in answers.values())


def test_the_measured_distance_is_the_one_a_second_measurement_finds(learnt_model: Path, web: Export) -> None:
    from tunesmith.exports._onnx_measure import probe
    from tunesmith.exports._onnx_session import session
    from tunesmith.weights.load import load

    again = probe(load(learnt_model), Text.read(learnt_model), raw_text=False)
    seen = again.measure(session(web.variants["q4"].path))
    assert seen.kl == pytest.approx(web.variants["q4"].about["kl"], abs=1e-5)
    assert again.measure(session(web.variants["fp32"].path)).kl == pytest.approx(0, abs=1e-6)


def test_tokens_that_never_come_have_no_part_in_the_distance(learnt_model: Path, web: Export) -> None:
    from tunesmith.exports._onnx_measure import probe
    from tunesmith.exports._onnx_session import session
    from tunesmith.weights.load import load

    text = Text.read(learnt_model)
    likeliest = text.encode("P")[0]
    model, never = load(learnt_model), frozenset([likeliest, *text.encode("h")])
    told = probe(model, dataclasses.replace(text, never=never), raw_text=False)
    assert {one.shape[-1] for one in told.reference} == {model.config.vocab_size - len(never)}
    assert not any(never & set(sample.ids[-sample.n_answer :]) for sample in told.samples)
    assert told.measure(session(web.variants["fp32"].path)).kl == pytest.approx(0, abs=1e-6)


def graph_of(export: Export, variant: str) -> Any:
    import onnx

    return onnx.load(export.variants[variant].path, load_external_data=False).graph


def test_inputs_and_sizes_are_named_as_transformers_js_wants_them(web: Export) -> None:
    for variant in web.variants:
        graph = graph_of(web, variant)
        shapes = {
            one.name: [size.dim_value or size.dim_param for size in one.type.tensor_type.shape.dim]
            for one in [*graph.input, *graph.output]
        }
        cache = {f"{kind}.{layer}.{part}" for kind in CACHE for layer in (0, 1) for part in ("key", "value")}
        assert set(shapes) == cache | {"input_ids", "attention_mask", "position_ids", "num_logits_to_keep", "logits"}
        assert shapes["input_ids"] == ["batch_size", "sequence_length"]
        assert shapes["attention_mask"] == ["batch_size", "total_sequence_length"]
        assert shapes["past_key_values.1.value"] == ["batch_size", 2, "past_sequence_length", 16]
        assert shapes["num_logits_to_keep"] == []


CACHE = ("past_key_values", "present")


def test_only_as_many_logits_come_out_as_are_asked_for(web: Export) -> None:
    import numpy as np

    from tunesmith.exports._onnx_session import run, session

    one = session(web.variants["fp32"].path)
    every = run(one, (5, 6, 7, 8), keep=0)["logits"]
    assert every.shape[:2] == (1, 4)
    last = run(one, (5, 6, 7, 8), keep=2)["logits"]
    assert last.shape[:2] == (1, 2)
    assert np.allclose(every[:, 2:], last, atol=1e-5)


def test_a_padded_batch_gives_each_row_what_it_gets_alone(web: Export) -> None:
    import numpy as np

    from tunesmith.exports._onnx_session import empty_cache, run, session

    one = session(web.variants["fp32"].path)
    cache = {name: np.repeat(value, 2, 0) for name, value in empty_cache(one).items()}
    feeds = {
        **cache,
        "input_ids": np.array([[0, 0, 9, 4], [5, 6, 7, 8]]),
        "attention_mask": np.array([[0, 0, 1, 1], [1, 1, 1, 1]]),
        "position_ids": np.array([[1, 1, 0, 1], [0, 1, 2, 3]]),
        "num_logits_to_keep": np.array(1),
    }
    both = one.run(["logits"], feeds)[0]
    for row, ids in enumerate([(9, 4), (5, 6, 7, 8)]):
        assert np.allclose(both[row, 0], run(one, ids)["logits"][0, 0], atol=1e-4)


def test_the_embedding_that_is_the_head_too_is_stored_once(learnt_model: Path, web: Export) -> None:
    n_parameters = BaseFacts.read(learnt_model).n_parameters
    data = {name: files.size_bytes(one.path.with_name(one.path.name + "_data")) for name, one in web.variants.items()}
    assert data["fp32"] == pytest.approx(4 * n_parameters, rel=0.03)
    assert data["fp16"] == pytest.approx(2 * n_parameters, rel=0.03)
    assert data["q8"] < 1.2 * n_parameters
    assert data["q4"] < 0.75 * n_parameters


def test_the_template_stands_in_the_one_file_that_is_read(learnt_model: Path, web: Export) -> None:
    settings = json.loads((web.folder / "model/tokenizer_config.json").read_text())
    assert settings["chat_template"] == BaseFacts.read(learnt_model).chat_template
    config = json.loads((web.folder / "model/config.json").read_text())
    chunks = config["transformers.js_config"]["use_external_data_format"]
    assert chunks == {one.path.name: 1 for one in web.variants.values()}


def test_nothing_that_samples_is_taken_along(learnt_model: Path, tmp_path: Path) -> None:
    from tunesmith.exports._web_files import put_text

    model = tmp_path / "model"
    shutil.copytree(learnt_model, model)
    settings = {"eos_token_id": [2], "temperature": 0.2, "top_p": 0.9, "do_sample": True, "suppress_tokens": [7]}
    settings |= {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3}
    (model / "generation_config.json").write_text(json.dumps(settings))
    put_text(model, tmp_path / "out")
    assert json.loads((tmp_path / "out/generation_config.json").read_text()) == {
        "eos_token_id": [2],
        "suppress_tokens": [7],
    }


def test_every_token_that_ends_an_answer_is_written(learnt_model: Path, tmp_path: Path) -> None:
    from tunesmith.exports._web_files import put_text

    model = tmp_path / "model"
    shutil.copytree(learnt_model, model)
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))  # the template ends turns with 2
    put_text(model, tmp_path / "out")
    assert json.loads((tmp_path / "out/generation_config.json").read_text()) == {"eos_token_id": [0, 2]}


def test_webassembly_takes_q8_where_its_memory_holds_it(learnt_model: Path, web: Export) -> None:
    class Large(BaseFacts):
        n_parameters = 900_000_000

    facts = BaseFacts.read(learnt_model)
    large = Large(facts.name, facts.folder, facts.config)
    assert Web()._on_the_processor(facts) == "q8"
    assert Web()._on_the_processor(large) == "q4"
    assert Web(dtypes=("q8",))._on_the_processor(large) == "q8"
    about = json.loads((web.folder / "page.json").read_text())
    assert about["wasm"] == "q8"
    assert about["context"] == 512
    config = json.loads((web.folder / "model/config.json").read_text())
    assert config["transformers.js_config"]["device_config"] == {"wasm": {"dtype": "q8"}}


def test_the_licences_of_what_is_taken_along_lie_beside_it(web: Export) -> None:
    for name in ("transformers.LICENSE", "onnxruntime-web.LICENSE"):
        assert "License" in (web.folder / "vendor" / name).read_text()


def test_the_folder_holds_all_that_the_page_needs_and_no_address_of_a_library(web: Export) -> None:
    for name in ("index.html", "page.js", "page.css", "worker.js", "page.json", "answer.mjs", "package-lock.json"):
        assert (web.folder / name).is_file()
    assert files.size_bytes(web.folder / "vendor") > 20_000_000
    ours = [path for path in web.folder.iterdir() if path.suffix in (".html", ".js", ".css", ".mjs")]
    assert len(ours) == 8
    assert [path.name for path in ours if re.search("https?://(?!127.0.0.1)", path.read_text())] == []
    assert [one["dtype"] for one in json.loads((web.folder / "page.json").read_text())["variants"]] == list(
        web.variants
    )


def test_an_export_is_read_back_from_its_folder(web: Export) -> None:
    from tunesmith.artifact import Manifest, seal

    seal(web.folder, Manifest("web", {}, {}, web.about_tree()))
    again = Export.open(web.folder)
    assert again is not None
    assert again.variants == web.variants


def test_the_disk_estimate_is_an_upper_bound(learnt_model: Path, web: Export) -> None:
    wanted = Web(dtypes=tuple(web.variants)).disk_bytes(BaseFacts.read(learnt_model))
    assert files.size_bytes(web.folder) < wanted


def test_nothing_is_refused_where_all_is_known(learnt_model: Path) -> None:
    needs.need_node()
    assert codes(learnt_model) == []


def test_what_a_browser_cannot_load_is_refused_before_training(learnt_model: Path, tmp_path: Path) -> None:
    assert codes(changed(learnt_model, tmp_path / "a", model_type="bert")) == ["export/web-unknown-architecture"]
    assert codes(changed(learnt_model, tmp_path / "b", layer_types=["linear_attention"] * 2)) == [
        "export/web-cache-form"
    ]
    assert codes(changed(learnt_model, tmp_path / "c", kv_lora_rank=64)) == ["export/web-cache-form"]
    big = changed(learnt_model, tmp_path / "d", vocab_size=256_000, hidden_size=4096)
    assert codes(big, dtypes=("fp32",)) == ["export/web-too-big"]
    assert codes(big, dtypes=("q4",)) == []


def test_a_tokenizer_that_javascript_cannot_read_is_refused(learnt_model: Path, tmp_path: Path) -> None:
    from tunesmith.exports._web_files import put_text

    model = tmp_path / "model"
    shutil.copytree(learnt_model, model)
    (model / "tokenizer.json").unlink()
    with pytest.raises(ExportError) as caught:
        put_text(model, tmp_path / "out")
    assert [fault.code for fault in caught.value.faults] == ["export/no-fast-tokenizer"]


def test_weights_that_would_stay_float_are_no_quantised_file(learnt_model: Path, tmp_path: Path) -> None:
    assert codes(changed(learnt_model, tmp_path / "a", num_experts=4)) == ["export/web-not-rounded"]
    assert codes(changed(learnt_model, tmp_path / "b", num_experts=4), dtypes=("fp16",)) == []


def test_products_of_another_form_are_refused_when_they_are_met(learnt_model: Path) -> None:
    from tunesmith.exports._onnx_put_blocks import Store, put_blocks
    from tunesmith.exports._onnx_quantise import EIGHT
    from tunesmith.weights.load import load

    graph, weights = _onnx_graph.trace(learnt_model), load(learnt_model).state_dict()
    put_blocks(graph, Store(weights, {}), lambda _name, _n: EIGHT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunesmith.exports._onnx_put_blocks.products", lambda model: iter(()))
        with pytest.raises(ExportError) as caught:
            put_blocks(graph, Store(weights, {}), lambda _name, _n: EIGHT)
    assert [fault.code for fault in caught.value.faults] == ["export/web-not-rounded"]


@pytest.mark.parametrize("dtype", ["fp16", "q4f16"])
def test_a_file_whose_logits_are_no_numbers_is_refused(learnt_model: Path, tmp_path: Path, dtype: str) -> None:
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "model"
    shutil.copytree(learnt_model, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.model.norm.weight.data.fill_(60_000.0)  # what it gives does not fit in float16
    model.save_pretrained(folder)
    with pytest.raises(ExportError) as caught:
        exported(folder, tmp_path / "out", dtypes=(dtype,))
    assert [fault.code for fault in caught.value.faults] == ["export/web-no-numbers"]


@pytest.mark.slow
def test_an_architecture_that_cannot_be_traced_is_an_error_of_one_line(
    learnt_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_onnx_graph, "_cache", lambda: tmp_path)
    broken = changed(learnt_model, tmp_path / "broken", hidden_act="nonsense")
    with pytest.raises(ExportError) as caught:
        _onnx_graph.trace(broken)
    assert [fault.code for fault in caught.value.faults] == ["export/not-traceable"]
    assert "\n" not in caught.value.faults[0].what
    assert not list(tmp_path.glob("*.onnx"))


def test_a_model_of_the_same_shape_takes_the_kept_graph(learnt_model: Path, tmp_path: Path) -> None:
    other = save(tmp_path / "other", seed=7)
    assert _onnx_graph.trace(other) == _onnx_graph.trace(learnt_model)
    deeper = save(tmp_path / "deeper", num_hidden_layers=3)
    assert _onnx_graph._shape_hash(deeper) != _onnx_graph._shape_hash(learnt_model)


def test_the_list_of_architectures_is_the_one_of_the_pinned_version() -> None:
    import importlib.util

    needs.need_node()
    spec = importlib.util.spec_from_file_location("tool_model_types", needs.ROOT / "tools" / "model_types.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert {"llama", "qwen3", "gemma3_text", "mistral"} <= set(known_types())
    assert list(known_types()) == tool.model_types(needs.WEB / "node_modules"), "mend with: python tools/model_types.py"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "gemma3_text", "mistral"])
def test_other_families_compute_what_torch_computes(family: str, tmp_path: Path) -> None:
    model = save_learnt(tmp_path / "model", family)
    export = exported(model, tmp_path / "out", dtypes=("fp32", "fp16", "q8", "q4", "q4f16"))
    assert furthest(model, export, "fp32") < EXACT
    assert furthest(model, export, "fp16") < 0.05
    for dtype in ("q8", "q4", "q4f16"):
        assert export.variants[dtype].about["kl"] <= export.variants[dtype].about["limit"]


@pytest.mark.slow
def test_a_head_of_its_own_and_biases_are_exported_too(tmp_path: Path) -> None:
    model = save_learnt(tmp_path / "model", "qwen2", n_steps=200, tie_word_embeddings=False)
    export = exported(model, tmp_path / "out", dtypes=("fp32", "q4"))
    assert furthest(model, export, "fp32") < EXACT
    assert export.variants["q4"].about["kl"] <= export.variants["q4"].about["limit"]
