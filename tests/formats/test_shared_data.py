from __future__ import annotations

import pytest

from needs import need_shared_data
from tiny.models import tokenizer
from tunesmith.formats._reading import read
from tunesmith.objectives.sft import Sft
from tunesmith.text.template import Text

N_ROWS = {
    "banking77-train.jsonl": 2000,
    "banking77-test.jsonl": 400,
    "snips-train.jsonl": 2100,
    "snips-test.jsonl": 350,
    "gsm8k-train.jsonl": 2000,
    "gsm8k-test.jsonl": 300,
    "shakespeare.txt": 1,
}


@pytest.mark.parametrize("name", N_ROWS)
def test_every_row_of_real_data_is_usable(name: str) -> None:
    reading = read(str(need_shared_data(name)))
    assert not reading.faults
    assert len(reading.examples) == reading.n_rows == N_ROWS[name]


@pytest.mark.parametrize("name", [name for name in N_ROWS if name.endswith("test.jsonl")])
def test_of_real_rows_the_answer_and_its_end_are_learnt(name: str) -> None:
    words = tokenizer()
    text = Text(words, frozenset([words.eos_token_id]))
    for example in read(str(need_shared_data(name))).examples[:100]:
        (tokens,) = Sft().weigh(example, text, 10_000)
        learnt = [one for one, weight in zip(tokens.ids, tokens.weights, strict=True) if weight]
        assert text.spell(learnt) == example.messages[-1]["content"] + "<|im_end|>"
