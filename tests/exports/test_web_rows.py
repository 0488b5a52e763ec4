"""Rows of the model's own data: what is taken of them, when an answer counts as another, and what follows from it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import needs
from tiny.learnt import ANSWERS
from tunesmith import say
from tunesmith.artifact import Export, Model
from tunesmith.exports import _onnx_samples
from tunesmith.exports._onnx_graph import put_weights, save, trace
from tunesmith.exports._onnx_measure import Probe, probe
from tunesmith.exports._onnx_samples import ROW_ANSWER_TOKENS, of_rows
from tunesmith.exports._onnx_session import session
from tunesmith.exports.web import Web
from tunesmith.text.example import Example
from tunesmith.text.template import Text
from tunesmith.weights.load import load


def row(*turns: str, **more: Any) -> Example:
    """A conversation whose turns are the user's and the assistant's by turns, each answer learnt."""
    messages = [{"role": ("user", "assistant")[at % 2], "content": one} for at, one in enumerate(turns)]
    return Example(tuple(messages), tuple(one["role"] == "assistant" for one in messages), **more)


ROWS = [row(question, answer) for question, answer in ANSWERS.items()]


@pytest.fixture(scope="module")
def text(learnt_model: Path) -> Text:
    return Text.read(learnt_model)


@pytest.fixture(scope="module")
def asked(learnt_model: Path, text: Text) -> Probe:
    return probe(load(learnt_model), text, False, ROWS)


def test_the_answer_is_the_last_of_the_row_with_its_end_token(text: Text) -> None:
    [sample] = of_rows(text, [row("Say hello.", "hello!", "a red fox", "yes")])
    assert text.spell(sample.ids[-sample.n_answer :]) == "yes<|im_end|>"
    assert "hello!" in text.spell(sample.ids[: -sample.n_answer])


def test_of_a_long_answer_its_beginning_is_taken(text: Text) -> None:
    [sample] = of_rows(text, [row("Say hello.", "hello and good day to you " * 40)])
    assert sample.n_answer == ROW_ANSWER_TOKENS
    assert text.spell(sample.ids[-sample.n_answer :]).startswith("hello and good day")


def test_rows_that_are_too_long_together_are_left_out(text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    short, long = row("a", "b"), row("a " * 300, "b")
    n_short = len(of_rows(text, [short])[0].ids)
    monkeypatch.setattr(_onnx_samples, "ROW_TOKENS", 2 * n_short)
    assert [len(one.ids) for one in of_rows(text, [short, long, short, short])] == [n_short, n_short]


def test_what_has_no_answer_gives_no_sample(text: Text) -> None:
    assert of_rows(text, [Example(text="Once upon a time"), row("a", "never <|im_end|> inside")]) == []


def test_tokens_about_as_likely_as_the_likeliest_are_choices_too(learnt_model: Path, asked: Probe) -> None:
    model = load(learnt_model)
    n_choices = []
    for one in asked.rows:
        with torch.inference_mode():
            shares = model(torch.tensor([one.sample.ids])).logits[0, -one.sample.n_answer - 1 : -1].softmax(-1)
        for place, as_good in zip(shares, one.as_good, strict=True):
            wanted = {token for token, share in enumerate(place.tolist()) if share >= 0.5 * float(place.max())}
            assert as_good == wanted
            n_choices.append(len(as_good))
    assert len(n_choices) > 10
    assert min(n_choices) == 1


def test_a_quarter_of_the_rows_is_watched_and_the_others_are_asked(
    learnt_model: Path, text: Text, asked: Probe
) -> None:
    assert len(asked.rows) == 3
    plain = probe(load(learnt_model), text, False)
    assert not plain.rows
    [watched, *_] = of_rows(text, ROWS)
    n_neutral = sum(len(one.ids) for one in _onnx_samples.neutral(load(learnt_model), text, False, every=2)[::2])
    assert {len(one.rows) for one in asked.given.values()} == {n_neutral + len(watched.ids)}
    assert len(asked.samples) * 2 == len(plain.samples) == 6
    assert not probe(load(learnt_model), text, True, ROWS).rows


def test_the_exact_file_keeps_every_answer_and_another_model_keeps_none(
    learnt_model: Path, learnt_web: Export, asked: Probe, tmp_path: Path
) -> None:
    same = asked.measure(session(learnt_web.variants["fp32"].path))
    assert (same.n_rows, same.n_changed, same.enough) == (3, 0, True)
    weights = load(learnt_model).state_dict()
    other = {name: one.roll(1, 0) if "lm_head" in name or "embed" in name else one for name, one in weights.items()}
    save(put_weights(trace(learnt_model), other), tmp_path / "other.onnx")
    far = asked.measure(session(tmp_path / "other.onnx"), to_the_end=False)
    assert (far.n_rows, far.n_changed, far.enough, far.is_far) == (3, 3, False, True)
    unasked = asked.measure(session(tmp_path / "other.onnx"), 0.01, to_the_end=False)
    assert (unasked.n_rows, unasked.enough) == (0, False)


def test_tokens_that_are_never_written_are_no_choice(learnt_model: Path, learnt_web: Export, text: Text) -> None:
    never = frozenset(_onnx_samples.of_rows(text, ROWS)[1].ids)
    told = probe(load(learnt_model), dataclasses.replace(text, never=never), False, ROWS)
    assert not any(never & as_good for one in told.rows for as_good in one.as_good)
    assert told.measure(session(learnt_web.variants["fp32"].path)).n_changed == 0


def test_the_export_asks_the_rows_and_says_what_came_of_it(learnt_model: Path, tmp_path: Path) -> None:
    needs.need_node()
    model = dataclasses.replace(Model.of(learnt_model), own_rows=lambda: ROWS)
    about = Web(dtypes=("q4",)).write(model, {}, tmp_path).variants["q4"].about
    assert (about["rows"], about["changed"]) == (3, 0)
    taken = next(one for one in about["tried"] if one["plan"] == about["plan"])
    assert (taken["rows"], taken["changed"]) == (3, 0)


def test_where_every_plan_changes_answers_the_nearest_is_taken_and_that_is_said(
    learnt_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs.need_node()
    monkeypatch.setattr(Probe, "_stays", lambda *_: False)
    model = dataclasses.replace(Model.of(learnt_model), own_rows=lambda: ROWS)
    warned: list[str] = []
    monkeypatch.setattr(say, "warn", warned.append)
    about = Web(dtypes=("q4",)).write(model, {}, tmp_path).variants["q4"].about
    assert (about["rows"], about["changed"]) == (3, 3)
    assert about["kl"] == min(one["kl"] for one in about["tried"])
    [said] = warned
    assert "another answer than the model's to 3 of 3 rows of its own data; q8 is nearer" in said
