"""Many questions at once, and how likely a text is, in PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tiny.learnt import ANSWERS
from tiny.models import save
from tunesmith.runtimes._contract import Scorer, Together
from tunesmith.runtimes.torch import _batches, _bytes_a_token, _may_begin_together, open_folder
from tunesmith.text.example import Ask

ASKS: list[Ask] = [[{"role": "user", "content": question}] for question in (*ANSWERS, "a red fox " * 9, "?")]


@pytest.mark.parametrize("max_tokens", [3, 40])
def test_asked_together_they_are_answered_as_one_by_one(learnt_model: Path, max_tokens: int) -> None:
    with open_folder(learnt_model) as opened:
        assert isinstance(opened, Together)
        together = dict(opened.answers(ASKS, max_tokens))
        alone = [opened.answer(ask, max_tokens) for ask in ASKS]
    assert sorted(together) == list(range(len(ASKS)))
    for place, one in enumerate(alone):
        other = together[place]
        assert (other.text, other.stopped) == (one.text, one.stopped)
        assert (other.n_prompt_tokens, other.n_answer_tokens) == (one.n_prompt_tokens, one.n_answer_tokens)
    if max_tokens == 40:
        assert [one.text for one in alone[:4]] == list(ANSWERS.values())


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text", "mistral"])
def test_padding_changes_no_answer_in_any_family(family: str, tmp_path: Path) -> None:
    """Random weights, and prompts on both sides of the window of 64 tokens that some layers look through."""
    asks: list[Ask] = [[{"role": "user", "content": "the quick brown fox " * n}] for n in (1, 4, 20, 2)]
    with open_folder(save(tmp_path / family, family, initializer_range=0.15, tie_word_embeddings=False)) as opened:
        together = dict(opened.answers(asks, 12))
        alone = [opened.answer(ask, 12) for ask in asks]
    assert [together[place].text for place in range(4)] == [one.text for one in alone]
    assert len({one.text for one in alone}) > 1, "they answer differently, so that a mix-up would show"


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text", "mistral"])
@pytest.mark.parametrize("n_words", [12, 90])
def test_what_all_begin_with_is_computed_once_and_changes_no_answer(n_words: int, family: str, tmp_path: Path) -> None:
    """Questions of several lengths behind it; where layers look through a window, nothing is shared."""
    system = {"role": "system", "content": " ".join(["the", "lazy", "dog"] * (n_words // 3))}
    asks: list[Ask] = [[system, {"role": "user", "content": "quick brown fox " * n}] for n in (1, 9, 30, 2)]
    with open_folder(save(tmp_path / family, family, initializer_range=0.15, tie_word_embeddings=False)) as opened:
        assert _may_begin_together(opened.model, 300) == (family != "gemma3_text")
        prompts = [opened.text.prompt(ask).ids for ask in asks]
        n_shared = opened._n_shared(prompts, 300)
        assert n_shared >= n_words or family == "gemma3_text"
        assert len({ids[:n_shared] for ids in prompts}) == 1
        together = dict(opened.answers(asks, 12))
        alone = [opened.answer(ask, 12) for ask in asks]
    assert [together[place].text for place in range(4)] == [one.text for one in alone]
    assert len({one.text for one in alone}) > 1, "they answer differently, so that a mix-up would show"


def test_prompts_that_are_one_leave_a_token_and_short_beginnings_are_not_shared(learnt_model: Path) -> None:
    with open_folder(learnt_model) as opened:
        long = list(range(40))
        assert opened._n_shared([long, long], 40) == 39
        assert opened._n_shared([long, long[:30]], 40) == 29
        assert opened._n_shared([long, [*long[:15], 0]], 40) == 0
        assert opened._n_shared([long], 40) == 0
        (one, two) = (answer for _, answer in sorted(opened.answers([ASKS[0], ASKS[0]], 40)))
        assert one.text == two.text == ANSWERS[ASKS[0][0]["content"]]  # type: ignore[index,call-overload]


def test_the_first_token_comes_before_the_answer_is_whole(learnt_model: Path) -> None:
    with open_folder(learnt_model) as opened:
        found = opened.answer(ASKS[0], 40)
    assert found.first_s is not None
    assert 0 < found.first_s < found.seconds


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_the_likelihood_of_an_answer_is_that_of_its_tokens_one_after_the_other(family: str, tmp_path: Path) -> None:
    """Of several at once, which begin alike for longer than a window, and are of several lengths."""
    system = {"role": "system", "content": "the lazy dog " * 30}
    asks: list[Ask] = [[system, {"role": "user", "content": "quick brown fox " * n}] for n in (1, 9, 30)]
    with open_folder(save(tmp_path / family, family, initializer_range=0.15, tie_word_embeddings=False)) as opened:
        assert isinstance(opened, Scorer)
        asked = [list(opened.text.prompt(ask).ids) for ask in asks]
        answers = [opened.text.encode(one) for one in ("Paris.<|im_end|>", "a red fox", "two three four five")]
        texts = [([*given, *answer], len(given)) for given, answer in zip(asked, answers, strict=True)]
        told = dict(opened.likelihoods(texts))
        for at, (given, answer) in enumerate(zip(asked, answers, strict=True)):
            by_hand = []
            for place, one in enumerate(answer):
                with torch.inference_mode():
                    logits = opened.model(torch.tensor([[*given, *answer[:place]]])).logits[0, -1].float()
                by_hand.append(float(torch.log_softmax(logits, -1)[one]))
            assert told[at] == pytest.approx(by_hand, abs=1e-4)
            assert dict(opened.likelihoods([texts[at]]))[0] == pytest.approx(by_hand, abs=1e-4)


def test_what_is_asked_at_once_has_a_bound(learnt_model: Path) -> None:
    assert list(_batches([15, 35, 25], 2, 1000)) == [[1, 2], [0]]
    assert [len(one) for one in _batches([400] * 5, 32, 1000)] == [2, 2, 1]
    assert [len(one) for one in _batches([4000] * 2, 32, 1000)] == [1, 1], "one alone always may"
    assert list(_batches([], 2, 1000)) == []
    with open_folder(learnt_model) as opened:
        assert _bytes_a_token(opened.model) == 2 * 4 * 2 * 2 * 16, "keys and values, float32, 2 layers, 2 heads of 16"
