from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tiny.models import CORPUS, tokenizer
from tunesmith.text import slices
from tunesmith.text.template import Text

WORDS = [
    "the",
    "quick",
    "don't",
    "0123",
    "naïve",
    "日本",
    "🙂",
    "\n",
    "\n\n",
    " \t",
    "{}",
    "<|im_start|>",
    ".",
    "  ",
    "e\u0301",
]


def text_of(kind: str) -> Text:
    if kind == "bytes":
        return Text(tokenizer(None), frozenset())
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=False))
    if kind == "blanks first":  # as Llama 2: a blank is put before the text
        bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        bpe.decoder = decoders.Metaspace(prepend_scheme="first")
    else:  # as Gemma: merges may reach over words
        bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(" ", "▁")])
    trained = trainers.BpeTrainer(special_tokens=["<unk>", "<s>", "</s>"], vocab_size=600, show_progress=False)
    bpe.train_from_iterator([*CORPUS, *WORDS], trained)
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return Text(PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>"), frozenset())


@pytest.mark.parametrize("kind", ["bytes", "blanks first", "over words"])
def test_the_ids_of_the_slices_are_those_of_the_whole(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE", 300)
    monkeypatch.setattr(slices, "WINDOW", 40)
    text = text_of(kind)
    for seed in range(30):
        drawn = random.Random(seed)
        words = drawn.choice((" ", "\n", "")).join(drawn.choices(WORDS, k=2000))
        cut = slices.slices(words, text.encode)
        assert "".join(cut) == words
        assert text.raw(words) == list(text.tokenizer(words)["input_ids"]), seed
    ordinary = "\n".join(CORPUS)
    assert len(slices.slices(ordinary, text.encode)) > 5


def test_a_text_without_a_safe_cut_is_one_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE", 10)
    assert slices.slices("a" * 100, text_of("bytes").encode) == ["a" * 100]
