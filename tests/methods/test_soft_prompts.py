"""Soft prompts: where they begin, how they are kept, and what they rest in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny.models import CHATML, save, tokenizer
from tiny.moved import shaken
from tunesmith.learn import agree
from tunesmith.machine import Machine
from tunesmith.methods.prompt import Prompt
from tunesmith.methods.ptuning import Ptuning
from tunesmith.text import virtual
from tunesmith.text.template import Text
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load

MACHINE = Machine(2, 10**10, 10**11)
WORDS = "What is the capital of France? Paris."


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"), initializer_range=0.15)


def moved(method: Any, folder: Path) -> tuple[Any, BaseFacts]:
    """A wrapped model whose rows are somewhere of their own."""
    facts = BaseFacts.read(folder)
    torch.manual_seed(0)
    return shaken(method.wrap(load(folder), facts), by=0.3, seed=0), facts


def test_it_begins_as_the_base_that_reads_its_text(base: Path) -> None:
    ids = Text.read(base).encode(WORDS)
    method, facts, asked = Prompt(length=len(ids), text=WORDS), BaseFacts.read(base), (5, 9, 40, 12)
    lead = method.lead(facts)
    begun = agree.logprobs(method.wrap(load(base), facts), [(*lead, *asked)], lead)
    written = agree.logprobs(load(base), [(*ids, *asked)])
    assert agree.gap(begun, written) < 1e-5


def test_a_text_is_cut_or_repeated_to_the_length(base: Path) -> None:
    ids, facts = Text.read(base).encode("Say hello."), BaseFacts.read(base)
    assert Prompt(length=2, text="Say hello.")._ids(facts) == ids[:2]
    assert Prompt(length=len(ids) + 2, text="Say hello.")._ids(facts) == [*ids, *ids[:2]]


@pytest.mark.parametrize("method", [Prompt(length=5), Ptuning(length=5), Ptuning(length=5, encoder="lstm")])
def test_plain_peft_puts_the_adapter_on_the_base_and_gets_the_same(method: Any, base: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    model, facts = moved(method, base)
    model.name_or_path = "someone/base"
    method.save(model, tmp_path / "adapter")
    theirs = PeftModel.from_pretrained(load(base), str(tmp_path / "adapter")).eval()
    assert theirs.peft_config["default"].base_model_name_or_path == "someone/base"
    asked, lead = (5, 9, 40, 12), method.lead(facts)
    (ours,) = agree.logprobs(model, [(*lead, *asked)], lead, len(lead))
    with torch.no_grad():
        logits = theirs(input_ids=torch.tensor([asked])).logits[0, -len(asked) :]
    assert torch.allclose(ours, logits.log_softmax(-1), atol=1e-5)


@pytest.mark.parametrize(("family", "scale"), [("llama", 1.0), ("gemma3_text", 8.0)])
@pytest.mark.parametrize("tied", [True, False])
def test_at_rest_each_row_is_what_the_layers_read_of_a_new_token(
    family: str, scale: float, tied: bool, tmp_path: Path
) -> None:
    """Gemma multiplies its embedding by the root of its width, here of 64."""
    folder = save(tmp_path, family, tie_word_embeddings=tied, initializer_range=0.15)
    method = Prompt(length=3)
    model, facts = moved(method, folder)
    rows, lead = model.get_input_embeddings().rows().detach().clone(), method.lead(facts)
    settled = method.settle(model)
    assert lead == tuple(range(facts.vocab_size, facts.vocab_size + 3))
    assert settled.config.vocab_size == facts.vocab_size + 3
    weight = settled.get_input_embeddings().weight[list(lead)]
    assert torch.allclose(weight, rows / scale, rtol=1e-5)
    head = settled.get_output_embeddings().weight
    assert (head is settled.get_input_embeddings().weight) == tied
    assert tied or bool((head[list(lead)] == 0).all())


def test_rows_that_the_embedding_has_to_spare_are_used_first(tmp_path: Path) -> None:
    words = tokenizer(CHATML)
    folder = save(tmp_path)
    model = load(folder)
    model.resize_token_embeddings(len(words) + 10)  # as bases have it whose vocabulary is rounded up
    model.save_pretrained(folder)
    method, before = Prompt(length=4), len(words) + 10
    wrapped, facts = moved(method, folder)
    assert method.lead(facts) == tuple(range(len(words), len(words) + 4))
    asked, lead = [(*method.lead(facts), 5, 9, 40)], method.lead(facts)
    tuned = agree.logprobs(wrapped, asked, lead, 4)
    settled = method.settle(wrapped)
    assert len(settled.get_input_embeddings().weight) == before
    assert agree.gap(agree.logprobs(settled, asked, lead, 4), tuned) < 1e-5


def test_a_folder_that_is_led_reads_its_tokens_first_and_never_writes_them(base: Path, tmp_path: Path) -> None:
    from tunesmith.weights.save import copy_words

    copy_words(base, tmp_path)
    before, first = Text.read(base), BaseFacts.read(base).next_token
    assert first is not None
    virtual.lead_with(tmp_path, range(first, first + 3))
    text = Text.read(tmp_path)
    ask = [{"role": "user", "content": "hello"}]
    assert text.prompt(ask).text == "<|vt_0|><|vt_1|><|vt_2|>" + before.prompt(ask).text
    assert text.prompt(ask).ids == (first, first + 1, first + 2, *before.prompt(ask).ids)
    assert text.prompt("hello").ids == (first, first + 1, first + 2, *before.prompt("hello").ids)
    assert text.never == {first, first + 1, first + 2}
    assert text.end_ids == before.end_ids
    assert text.decode([first, *before.encode("hello")]) == "hello"


def test_bos_stays_the_first_token_after_the_soft_prompt(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    words = tokenizer(CHATML)
    words.bos_token = "<|endoftext|>"
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", words.bos_token_id)]
    )
    words.save_pretrained(tmp_path)
    bare = Text.read(tmp_path).prompt("hello").ids
    assert bare[0] == words.bos_token_id
    virtual.lead_with(tmp_path, [len(words), len(words) + 1])
    led = Text.read(tmp_path).prompt("hello")
    assert led.ids == (len(words), len(words) + 1, *bare)
    assert led.text == "<|vt_0|><|vt_1|><|endoftext|>hello"
    assert Text.read(tmp_path).ids(led.text, raw_text=True) == list(led.ids)


def test_every_named_template_is_led(tmp_path: Path) -> None:
    words = tokenizer(None)
    words.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    named = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": named}))
    virtual.lead_with(tmp_path, [len(words)])
    told = json.loads((tmp_path / "tokenizer_config.json").read_text())["chat_template"]
    assert [one["template"] for one in told] == ["<|vt_0|>a", "<|vt_0|>b"]


def test_ids_that_the_tokenizer_would_not_give_are_refused(base: Path, tmp_path: Path) -> None:
    from tunesmith.weights.save import copy_words

    copy_words(base, tmp_path)
    with pytest.raises(ValueError, match="new tokens"):
        virtual.lead_with(tmp_path, [5000, 5001])


def codes(method: Any, folder: Path) -> list[str]:
    return [fault.code for fault in method.refuse(BaseFacts.read(folder), MACHINE)]


def test_a_base_whose_tokenizer_takes_no_tokens_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path)
    assert codes(Prompt(), folder) == []
    (folder / "tokenizer.json").unlink()
    assert codes(Prompt(), folder) == ["method/no-tokenizer-json"]


def test_a_base_that_has_a_soft_prompt_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path)
    method = Prompt(length=2)
    settled = method.settle(moved(method, folder)[0])
    lead = method.lead(BaseFacts.read(folder))
    settled.save_pretrained(folder)
    virtual.lead_with(folder, lead)
    assert codes(Ptuning(), folder) == ["method/has-soft-prompt"]


def test_a_base_that_reads_an_embedding_in_every_layer_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size_per_layer_input": 8}))
    assert codes(Prompt(), folder) == ["method/embeddings-in-layers"]
