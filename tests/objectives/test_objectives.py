from __future__ import annotations

from typing import Any

import pytest

from tiny.models import CHATML, tokenizer
from tunesmith import say
from tunesmith.errors import DataError
from tunesmith.objectives._prepare import prepare
from tunesmith.objectives.sft import Sft
from tunesmith.objectives.uft import Uft
from tunesmith.text.example import Example
from tunesmith.text.template import Text


def text_of(template: str | None = CHATML, **special: str) -> Text:
    words = tokenizer(template)
    if special:
        words.add_special_tokens(special)
    return Text(words, frozenset([words.eos_token_id]))


def chat(ask: str, answer: str, line: int = 1) -> Example:
    messages: tuple[dict[str, Any], ...] = ({"role": "user", "content": ask}, {"role": "assistant", "content": answer})
    return Example(messages, (False, True), file="rows.jsonl", line=line)


def codes(faults: Any) -> list[str]:
    return [fault.code for fault in faults]


def test_sft_refuses_raw_text_and_bases_without_a_template() -> None:
    assert codes(Sft().refuse(Example(text="a tale"), text_of())) == ["objective/raw-text"]
    assert codes(Sft().refuse(chat("a", "b"), text_of(None))) == ["objective/no-template"]
    assert Sft().refuse(chat("a", "b"), text_of()) == []


def test_an_example_longer_than_the_limit_is_refused_and_never_cut() -> None:
    text = text_of()
    (whole,) = Sft().weigh(chat("ask", "answer"), text, 1000)
    assert Sft().weigh(chat("ask", "answer"), text, len(whole.ids)) == [whole]
    with pytest.raises(DataError) as caught:
        Sft().weigh(chat("ask", "answer", line=9), text, len(whole.ids) - 1)
    (fault,) = caught.value.faults
    assert (fault.code, fault.line) == ("data/too-long", 9)
    assert f"{len(whole.ids)} tokens" in fault.what


def test_uft_refuses_conversations() -> None:
    assert codes(Uft().refuse(chat("a", "b"), text_of())) == ["objective/chat-rows"]
    assert Uft().refuse(Example(text="a tale"), text_of(None)) == []


@pytest.mark.parametrize("max_length", [2, 3, 7, 50, 1000])
def test_each_token_of_a_raw_text_is_learnt_once_and_the_end_too(max_length: int) -> None:
    text = text_of()
    words = "the quick brown fox jumps over the lazy dog. " * 5
    pieces = Uft().weigh(Example(text=words), text, max_length)
    ids = [*text.encode(words), text.tokenizer.eos_token_id]
    learnt = [one for piece in pieces for one, weight in zip(piece.ids, piece.weights, strict=True) if weight]
    assert learnt == ids[1:]
    assert all(1 < len(piece.ids) <= max_length for piece in pieces)
    assert all(piece.weights[0] == 0 for piece in pieces)
    assert all(set(piece.weights[1:]) == {1.0} for piece in pieces)


def test_a_raw_text_begins_with_what_its_tokenizer_adds() -> None:
    from tokenizers import processors

    words = tokenizer(None)
    words.add_special_tokens({"bos_token": "<s>"})
    adds = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", words.bos_token_id)])
    words.backend_tokenizer.post_processor = adds
    (piece,) = Uft().weigh(Example(text="a tale"), Text(words, frozenset()), 100)
    assert piece.ids[0] == words.bos_token_id
    assert piece.ids[-1] == words.eos_token_id
    assert piece.weights == (0.0, *(1.0,) * (len(piece.ids) - 1))


def test_a_text_without_an_end_token_or_of_one_token_is_a_fault() -> None:
    words = tokenizer(None)
    with pytest.raises(DataError) as caught:
        Uft().weigh(Example(text="<|im_end|>", file="rows.jsonl", line=4), Text(words, frozenset()), 100)
    assert [(fault.code, fault.line) for fault in caught.value.faults] == [("objective/nothing-follows", 4)]
    words.eos_token = None
    with pytest.raises(DataError, match="objective/no-end-token"):
        Uft().weigh(Example(text="a tale"), Text(words, frozenset()), 100)


def test_a_limit_below_two_tokens_is_a_fault() -> None:
    with pytest.raises(DataError, match="objective/max-length"):
        Uft().weigh(Example(text="a tale"), text_of(), 1)


def test_a_data_set_is_prepared_with_all_faults_and_counts() -> None:
    rows = [
        chat("a", "b", 1),
        Example(text="tale", file="rows.jsonl", line=2),
        chat("a", "b " * 500, 3),
        chat("c", "dd", 4),
    ]
    prepared = prepare(rows, Sft(), text_of(), 100)
    assert [(fault.code, fault.line) for fault in prepared.faults] == [("objective/raw-text", 2), ("data/too-long", 3)]
    assert len(prepared.tokens) == prepared.n_examples == 2
    assert prepared.n_learnt == sum(len(text_of().encode(words)) + 1 for words in ("b", "dd"))
    assert prepared.n_tokens == sum(len(one.ids) for one in prepared.tokens)


def test_what_a_template_never_writes_is_said_once_with_a_count() -> None:
    class Ear(say.Silent):
        def __init__(self) -> None:
            self.heard: list[str] = []

        def warn(self, text: str) -> None:
            self.heard.append(text)

    ear = Ear()
    before = say.hear(ear)
    try:
        thinks = {"role": "assistant", "content": "b", "reasoning_content": "hm"}
        rows = [Example(({"role": "user", "content": "a"}, thinks), (False, True))] * 3 + [chat("a", "b")]
        assert prepare(rows, Sft(), text_of(), 100).n_examples == 4
    finally:
        say.hear(before)
    assert len(ear.heard) == 1
    assert "does not write thoughts (reasoning_content, <think>)" in ear.heard[0]
    assert ear.heard[0].endswith("3 rows")


def test_a_fault_of_the_base_is_said_once() -> None:
    assert codes(prepare([chat("a", "b", line) for line in range(9)], Sft(), text_of(None), 100).faults) == [
        "objective/no-template"
    ]
