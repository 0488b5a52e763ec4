"""New tokens through the whole chain: tuned by a recipe, written in answers, and the same in every runtime."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import needs
from tiny.models import CORPUS, config, save, tokenizer
from tiny.moved import power_cut
from tiny.rows import BY_HEART, write_chats
from tunesmith.artifact import Export, Model, Run
from tunesmith.exports.gguf import Gguf
from tunesmith.exports.ollama import Ollama
from tunesmith.exports.web import Web
from tunesmith.learn.agree import gap, logprobs
from tunesmith.methods.lora import Lora
from tunesmith.recipe import Recipe
from tunesmith.runtimes.llama_cpp import LlamaCpp
from tunesmith.runtimes.ollama import Ollama as OllamaRuntime
from tunesmith.runtimes.onnxruntime import OnnxRuntime
from tunesmith.runtimes.torch import open_folder
from tunesmith.runtimes.transformers_js import TransformersJs
from tunesmith.text import vocabulary
from tunesmith.text.template import Text
from tunesmith.verbs._merge import merge
from tunesmith.verbs.plan import plan
from tunesmith.verbs.tune import tune
from tunesmith.weights import save as saving
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load

PAIRS = {ask: f"<|tool|>{answer}</tool>" for ask, answer in BY_HEART.items()}
ASKS: Sequence[Any] = [
    *([{"role": "user", "content": ask}] for ask in PAIRS),
    [{"role": "user", "content": "a <|tool|>text</tool> with\n <|tool|> marks</tool>!"}],
    "the quick <|tool|>brown</tool><|tool|> fox",
]


def recipe(base: Path, data: Path, **method: Any) -> Recipe:
    told = {"kind": "lora", "tokens": ["<|tool|>", "</tool>"], **method}
    run = {"epochs": 40, "batch_size": 8, "learning_rate": 2e-2, "weight_decay": 0.0, "checkpoint_minutes": 1e-6}
    return Recipe.model_validate({"base": str(base), "data": {"train": str(data)}, "method": told, "run": run})


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("tuned")
    base = save(folder / "base", tie_word_embeddings=request.param, initializer_range=0.15)
    return tune(recipe(base, write_chats(folder / "rows.jsonl", PAIRS)), into=folder / "run")


def test_the_tuned_model_writes_the_new_tokens_and_each_is_one(run: Run) -> None:
    n, text = len(tokenizer()), Text.read(run.model.folder)
    with open_folder(run.model.folder) as model:
        for ask, answer in PAIRS.items():
            said = model.answer([{"role": "user", "content": ask}], 20)
            assert (said.text, said.stopped) == (answer, True)
    assert text.encode("<|tool|></tool>") == [n, n + 1]
    assert BaseFacts.read(run.model.folder).vocab_size == n + 2
    about = json.loads((run.folder / "settled.json").read_text())["about"]
    assert about["settled_gap"] <= 1e-4 < about["moved"]
    assert json.loads((run.folder / "adapter" / "adapter_config.json").read_text())["trainable_token_indices"]


def differences(export: Export, variant: str, runtime: Any, run: Run) -> float:
    """The largest difference of a log-probability over torch's ten likeliest tokens; what is asked is read alike."""
    text, worst = Text.read(run.model.folder), 0.0
    with open_folder(run.model.folder, text) as reference, runtime.open(export, variant, text) as opened:
        for ask in ASKS:
            prompt = text.prompt(ask)
            assert list(opened.tokens(prompt.text)) == list(prompt.ids)
            wanted, seen = reference.logprobs(prompt, 10), opened.logprobs(prompt, 500)
            worst = max([worst, *(abs(value - seen[token]) for token, value in wanted.items())])
            assert opened.answer(ask, 16).text == reference.answer(ask, 16).text
    return worst


def test_llama_cpp_reads_and_writes_them_as_torch_does(run: Run, tmp_path: Path) -> None:
    export = Gguf(types=("f32",)).write(Model.of(run.model.folder), {}, tmp_path)
    assert differences(export, "f32", LlamaCpp(), run) < 1e-3
    from gguf import GGUFReader, TokenType

    n, fields = len(tokenizer()), GGUFReader(export.variants["f32"].path).fields
    kinds = fields["tokenizer.ggml.token_type"].contents()
    assert kinds[n:] == [TokenType.USER_DEFINED] * 2


def with_sentencepiece(folder: Path) -> Path:
    """A random model of Llama's first kind: its vocabulary is in tokenizer.model, which llama.cpp's converter reads."""
    import sentencepiece
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder.mkdir()
    made = io.BytesIO()
    told = {"vocab_size": 400, "model_type": "bpe", "byte_fallback": True, "hard_vocab_limit": False}
    trainer = sentencepiece.SentencePieceTrainer
    trainer.train(sentence_iterator=iter(CORPUS), model_writer=made, minloglevel=2, **told)
    (folder / "tokenizer.model").write_bytes(made.getvalue())
    own = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(own))
    words = AutoTokenizer.from_pretrained(folder)
    words.save_pretrained(folder)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config("llama", len(words))).save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(made.getvalue())
    return folder


@pytest.mark.parametrize("special", [True, False])
def test_a_file_made_from_tokenizer_model_has_them_too(special: bool, tmp_path: Path) -> None:
    base = with_sentencepiece(tmp_path / "base")
    method, facts = Lora(rank=4, tokens=("<|tool|>", "</tool>")), BaseFacts.read(base)
    words, into = method.words(facts), tmp_path / "model"
    saving.save(method.settle(method.wrap(load(base), facts)), base, into)
    vocabulary.add(into, words, special=special)
    assert Text.read(into).decode(list(words.values())) == ("" if special else "<|tool|></tool>")
    (tmp_path / "gguf").mkdir()
    export = Gguf(types=("f32",)).write(Model.of(into), {}, tmp_path / "gguf")
    from gguf import GGUFReader

    fields = GGUFReader(export.variants["f32"].path).fields
    assert fields["tokenizer.ggml.model"].contents() == "llama"
    assert fields["tokenizer.ggml.tokens"].contents()[-2:] == list(words)


def test_the_web_reads_and_writes_them_as_torch_does(run: Run, tmp_path: Path) -> None:
    needs.need_node()
    export = Web(dtypes=("fp32",)).write(Model.of(run.model.folder), {}, tmp_path)
    for runtime in (OnnxRuntime(), TransformersJs()):
        assert differences(export, "fp32", runtime, run) < 1e-3


def test_ollama_reads_and_writes_them_as_torch_does(
    run: Run, ollama_server: needs.OllamaServer, tmp_path: Path
) -> None:
    (tmp_path / "gguf").mkdir()
    (tmp_path / "ollama").mkdir()
    model = Model.of(run.model.folder)
    gguf = Gguf(types=("f32",)).write(model, {}, tmp_path / "gguf")
    named = Ollama(type="f32", create=False, name=run.folder.parent.name)
    export = named.write(model, {"gguf": gguf}, tmp_path / "ollama")
    text = Text.read(model.folder)
    with open_folder(model.folder, text) as reference, OllamaRuntime().open(export, "f32", text) as opened:
        for ask in ASKS[:-1]:
            wanted, seen = reference.answer(ask, 16), opened.answer(ask, 16)
            assert (seen.text, seen.n_prompt_tokens) == (wanted.text, wanted.n_prompt_tokens)


def test_the_adapter_goes_onto_the_base_again_with_its_tokens(run: Run, tmp_path: Path) -> None:
    assert run.adapter is not None
    merge(run.adapter, run.folder.parent / "base", tmp_path / "merged")
    asked = [Text.read(run.model.folder).prompt(ask).ids for ask in ASKS]
    assert [Text.read(tmp_path / "merged").prompt(ask).ids for ask in ASKS] == asked
    assert gap(logprobs(load(tmp_path / "merged"), asked), logprobs(load(run.model.folder), asked)) < 1e-4


def test_broken_off_and_gone_on_with_it_ends_where_a_straight_run_does(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with power_cut(monkeypatch, step=5):
        tune(run.recipe, into=tmp_path / "broken")
    assert tune(run.recipe, into=tmp_path / "broken", resume=True).model.identity == run.model.identity


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = save(tmp_path / "base")
    (folder / "model.safetensors").unlink()  # a plan needs no weights
    return folder


def test_a_plan_counts_them_and_a_row_is_as_short_as_they_make_it(base: Path, tmp_path: Path) -> None:
    data = write_chats(tmp_path / "rows.jsonl", PAIRS)
    with_tokens = plan(recipe(base, data), into=tmp_path / "run", probe=False)
    without = plan(recipe(base, data, tokens=[]), into=tmp_path / "run", probe=False)
    assert with_tokens.refusals == without.refusals == ()
    assert with_tokens.as_json()["moves"]["tokens"] == 2 * 64
    pieces = len(Text.read(base).encode("<|tool|>fox</tool>")) - len(Text.read(base).encode("fox"))
    lengths = [sum(n for n, _ in one.ready.lengths) for one in (without, with_tokens)]
    assert lengths[0] - lengths[1] >= 8 * (pieces - 4) > 0


def test_new_tokens_that_no_row_has_are_warned_of(base: Path, tmp_path: Path, capsys: Any) -> None:
    data = write_chats(tmp_path / "rows.jsonl", PAIRS)
    plan(recipe(base, data, tokens=["<|tool|>", "</tool>", "<think>", "</think>"]), into=tmp_path / "run", probe=False)
    assert "no row has <think>, </think>" in capsys.readouterr().err
    plan(recipe(base, data), into=tmp_path / "run", probe=False)
    assert "no row has" not in capsys.readouterr().err


@pytest.mark.parametrize("method", [{"kind": "lora", "tokens": ["<|tool|>"]}, {"kind": "prompt", "length": 3}])
def test_a_tokenizer_that_gives_them_other_ids_is_refused_in_the_plan(method: Any, base: Path, tmp_path: Path) -> None:
    """Its config names a token that tokenizer.json has not; a soft prompt needs new tokens as well."""
    file = base / "tokenizer_config.json"
    more = {str(len(tokenizer())): {"content": "<|more|>", "special": True}}
    known = {
        str(one): {"content": str(token), "special": True} for one, token in tokenizer().added_tokens_decoder.items()
    }
    file.write_text(json.dumps({**json.loads(file.read_text()), "added_tokens_decoder": {**known, **more}}))
    data = write_chats(tmp_path / "rows.jsonl", PAIRS)
    told = Recipe.model_validate({"base": str(base), "data": {"train": str(data)}, "method": method})
    planned = plan(told, into=tmp_path / "run", probe=False)
    assert [fault.code for fault in planned.refusals] == ["plan/tokens-refused"]
