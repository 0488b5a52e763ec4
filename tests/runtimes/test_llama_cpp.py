"""llama.cpp as a runtime: its own process, its BOS rule, and its failures in words."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tiny.learnt import save_learnt
from tiny.models import save
from tunesmith.artifact import Export, Model, Variant
from tunesmith.errors import RuntimeFault
from tunesmith.exports.gguf import Gguf
from tunesmith.runtimes.llama_cpp import LlamaCpp, _without, serving
from tunesmith.runtimes.torch import open_folder
from tunesmith.text.example import Prompt
from tunesmith.text.template import Text

BOS_TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def with_bos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Export, Text]:
    """A model whose tokenizer adds BOS to a raw text, and whose template writes it once."""
    top = tmp_path_factory.mktemp("bos")
    folder = save(top / "model", template=BOS_TEMPLATE)
    tree = json.loads((folder / "tokenizer.json").read_text())
    name = "<|im_start|>"
    first, text = {"SpecialToken": {"id": name, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    tree["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {name: {"id": name, "ids": [1], "tokens": [name]}},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tree))
    about = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**about, "bos_token": name}))
    (top / "out").mkdir()
    return Gguf(types=("f32",)).write(Model.of(folder), {}, top / "out"), Text.read(folder)


def test_a_beginning_token_is_fed_once_and_shown(with_bos: tuple[Export, Text]) -> None:
    export, text = with_bos
    with LlamaCpp().open(export, "f32", text) as opened:
        prompt = text.prompt(ASK)
        assert prompt.ids[:2].count(1) == 1
        assert opened.render(ASK) == prompt.text
        assert list(opened.tokens(prompt.text)) == list(prompt.ids)
        assert list(opened.tokens("hello")) == list(text.prompt("hello").ids)
        reply = opened.server.ask("/v1/chat/completions", {"messages": ASK, "max_tokens": 1})
        assert reply["usage"]["prompt_tokens"] == len(prompt.ids)
        doubled = text.tokenizer.bos_token + prompt.text
        assert list(opened.tokens(doubled)) == [1, *prompt.ids]


def test_two_models_can_be_open_at_once_and_one_again_after(with_bos: tuple[Export, Text]) -> None:
    export, text = with_bos
    prompt = text.prompt("the quick")
    with LlamaCpp().open(export, "f32", text) as one, LlamaCpp().open(export, "f32", text) as other:
        assert one.logprobs(prompt, 3) == pytest.approx(other.logprobs(prompt, 3), abs=1e-5)
        first = one.logprobs(prompt, 3)
    with LlamaCpp().open(export, "f32", text) as again:
        assert again.logprobs(prompt, 3) == pytest.approx(first, abs=1e-5)


def test_all_probabilities_are_given_when_all_are_asked_for(with_bos: tuple[Export, Text]) -> None:
    export, text = with_bos
    with LlamaCpp().open(export, "f32", text) as opened:
        seen = opened.logprobs(text.prompt("the quick"), len(text.tokenizer))
    assert set(seen) == set(range(len(text.tokenizer)))
    assert sum(math.exp(value) for value in seen.values()) == pytest.approx(1, abs=1e-4)


def test_probabilities_are_given_where_a_part_of_a_character_or_an_end_is_likeliest(
    with_bos: tuple[Export, Text],
) -> None:
    import torch

    from tunesmith.weights.load import load

    export, text = with_bos
    model, kinds = load(Path(text.tokenizer.name_or_path)), set()
    with LlamaCpp().open(export, "f32", text) as opened, torch.no_grad():
        for start in range(0, 300, 5):
            wanted = torch.log_softmax(model(torch.tensor([[start, start + 1]])).logits[0, -1], -1)
            likeliest = int(wanted.argmax())
            seen = opened.logprobs(Prompt("", (start, start + 1)), 3)
            assert seen[likeliest] == pytest.approx(wanted[likeliest].item(), abs=1e-4)
            kinds.add("part" if "\ufffd" in text.decode([likeliest]) else "whole")
    assert kinds == {"part", "whole"}


def test_a_prompt_beyond_the_context_is_refused_in_words(with_bos: tuple[Export, Text]) -> None:
    export, text = with_bos
    with LlamaCpp(n_context=256).open(export, "f32", text) as opened, pytest.raises(RuntimeFault) as raised:
        opened.answer("hello " * 600, 4)
    assert raised.value.faults[0].code == "runtime/failed"
    assert "context" in raised.value.faults[0].what
    assert raised.value.faults[0].fix == "ask with a shorter conversation"


def test_a_file_that_is_no_model_is_refused_in_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "x.gguf"
    file.write_bytes(b"GGUF" + b"\0" * 64)
    export = Export("gguf", tmp_path, {"f32": Variant("f32", file, 68, "float32")})
    with pytest.raises(RuntimeFault) as raised, LlamaCpp().open(export, "f32", None):  # type: ignore[arg-type]
        pass
    assert raised.value.faults[0].code == "runtime/cannot-load"
    assert capfd.readouterr() == ("", "")


def test_the_process_ends_with_the_block_and_needs_a_key(with_bos: tuple[Export, Text]) -> None:
    import urllib.error
    import urllib.request

    export, _ = with_bos
    with serving(export.variants["f32"].path, 256) as server:
        body = urllib.request.Request(server.address + "/tokenize", data=b'{"content": "a"}')
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(body, timeout=20)
    with pytest.raises(RuntimeFault, match="runtime/died"):
        serving_is_over(server)


def serving_is_over(server: object) -> None:
    import dataclasses
    import tempfile

    with tempfile.TemporaryFile() as log:
        dataclasses.replace(server, log=log).ask("/tokenize", {"content": "a"}, timeout_s=5)  # type: ignore[type-var,attr-defined]


def test_present_says_the_version() -> None:
    found = LlamaCpp().present()
    assert found.here
    assert found.version[:2] == "20"


def test_tokens_that_never_come_leave_their_share_to_the_others() -> None:
    told = {1: math.log(0.4), 2: math.log(0.3), 3: math.log(0.2), 4: math.log(0.1)}
    shares = {2: 0.3 / 0.6, 3: 0.2 / 0.6, 4: 0.1 / 0.6}
    assert _without(told, {1, 7}) == pytest.approx({one: math.log(share) for one, share in shares.items()})


@pytest.mark.parametrize("n_never", [1, 40])
def test_probabilities_without_tokens_that_never_come_are_torchs(n_never: int, tmp_path: Path) -> None:
    """The likeliest tokens of all are suppressed: most of the probability is theirs."""
    folder = save_learnt(tmp_path / "model")
    prompt = Text.read(folder).prompt([{"role": "user", "content": "Say hello."}])
    with open_folder(folder) as model:
        never = list(model.logprobs(prompt, n_never))
    tree = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**tree, "suppress_tokens": never}))
    text = Text.read(folder)
    (tmp_path / "gguf").mkdir()
    export = Gguf(types=("f32",)).write(Model.of(folder), {}, tmp_path / "gguf")
    with open_folder(folder, text) as model, LlamaCpp().open(export, "f32", text) as opened:
        wanted, seen = model.logprobs(prompt, 10), opened.logprobs(prompt, 20)
        assert model.answer(ASK, 5).text == opened.answer(ASK, 5).text
    assert not set(never) & set(seen)
    assert len(seen) == 20
    assert {one: seen[one] for one in wanted} == pytest.approx(wanted, abs=1e-3)


def test_probabilities_are_told_however_little_tokens_that_never_come_leave_of_them(tmp_path: Path) -> None:
    """A soft prompt's row may be ahead of all words by more than float32 has room for between 1 and nothing."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = save_learnt(tmp_path / "model")
    prompt = Text.read(folder).prompt([{"role": "user", "content": "Say hello."}])
    with open_folder(folder) as model:
        never = next(iter(model.logprobs(prompt, 1)))
    weights = load_file(folder / "model.safetensors")
    head = "lm_head.weight" if "lm_head.weight" in weights else "model.embed_tokens.weight"
    weights[head][never] *= 40
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with open_folder(folder) as model, torch.no_grad():
        first, second = sorted(model.logprobs(prompt, 2).values(), reverse=True)
        assert first - second > 150
    tree = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**tree, "suppress_tokens": [never]}))
    text = Text.read(folder)
    (tmp_path / "gguf").mkdir()
    export = Gguf(types=("f32",)).write(Model.of(folder), {}, tmp_path / "gguf")
    said = prompt.text + "hello, please!"
    ended = Prompt(said, tuple(text.encode(said)))  # the token drawn there ends the answer, and would tell nothing
    with open_folder(folder, text) as model, LlamaCpp().open(export, "f32", text) as opened:
        assert model.greedy(ended, 1)[0] in text.end_ids
        found = [(model.logprobs(one, 10), opened._once_suppressed(one, 10)) for one in (prompt, ended)]
        assert opened.logprobs(prompt, 10) == pytest.approx(found[0][1])
    for wanted, seen in found:
        assert never not in seen
        assert {one: seen.get(one) for one in wanted} == pytest.approx(wanted, abs=1e-3)
