"""Which metrics fit, with the reason; what is wrong with an answer whatever was wanted; two models on the same rows."""

from __future__ import annotations

import json

import pytest

import needs
from tunesmith import rooms
from tunesmith.metrics import _harm
from tunesmith.metrics._choose import choose
from tunesmith.metrics._contract import Row
from tunesmith.metrics._scoring import Scores, scores
from tunesmith.metrics.exact_match import ExactMatch
from tunesmith.metrics.json_match import JsonMatch
from tunesmith.runtimes._contract import Answer

TEXT = "A long answer in many words, number {}, which says something else each time it is given to a person."


def names(wanted: list[str]) -> list[str]:
    return [one.name for one in choose(wanted)]


@pytest.mark.parametrize(
    ("wanted", "chosen", "why"),
    [
        ([f'{{"n": {n}}}' for n in range(350)], ["json_match", "json_fields"], "all 350 answers are JSON"),
        (["[]", "oh"] + ["{}"] * 38, ["json_match", "json_fields"], "39 of 40 answers are JSON"),
        (["yes", "no", "no", "yes "], ["label", "normalised_match"], "the 4 answers are 2 different ones"),
        (["1", "5", "1", "5"], ["label", "normalised_match"], "the 4 answers are 2 different ones"),
        ([str(n % 40) for n in range(100)], ["number"], "all 100 answers are a number or end in one behind ####"),
        ([f"think\n#### {n}" for n in range(3)], ["number"], "all 3 answers are a number or end in one behind ####"),
        (["$5", "12 km", "1 000"], ["number"], "all 3 answers are a number or end in one behind ####"),
        (["Paris", "Rome"], ["exact_match", "normalised_match"], "all 2 answers have at most 60 characters"),
        (["ja"] * 9, ["exact_match", "normalised_match"], "all 9 answers have at most 60 characters"),
        ([TEXT.format(n) for n in range(5)], ["chrf", "rouge"], "all 5 answers have more than 60 characters"),
        ([TEXT.format(1)] * 4, ["chrf", "rouge"], "all 4 answers have more than 60 characters"),
        (
            ["東京は日本の首都です。" * 9 + str(n) for n in range(3)],
            ["chrf"],
            "all 3 answers have more than 60 characters",
        ),
        ([""], ["exact_match", "normalised_match"], "all 1 answers have at most 60 characters"),
    ],
)
def test_the_metrics_are_chosen_by_the_answers_and_the_reason_is_said(
    wanted: list[str], chosen: list[str], why: str
) -> None:
    assert names(wanted) == [*chosen, "perplexity"]
    assert choose(wanted)[0].why == why


def test_without_answers_nothing_is_chosen_and_the_judge_never_is() -> None:
    assert choose([]) == ()
    assert not rooms.find("metrics", "judge")().fits(["a"])


def test_a_chosen_metric_says_what_keeps_it_from_working_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.metrics._libraries.find_spec", lambda name: None)
    found = {one.name: [fault.code for fault in one.faults] for one in choose([TEXT] * 2)}
    assert found == {"chrf": ["metric/missing-package"], "rouge": ["metric/missing-package"], "perplexity": []}


@pytest.mark.parametrize(("name", "first"), [("banking77", "label"), ("snips", "json_match"), ("gsm8k", "number")])
def test_real_data_is_judged_by_what_a_person_would_take_and_is_right_about_itself(name: str, first: str) -> None:
    path = needs.need_shared_data(f"{name}-test.jsonl")
    lines = path.read_text(encoding="utf-8").splitlines()
    wanted = [json.loads(line)["messages"][-1]["content"] for line in lines]
    assert len(wanted) >= 300
    assert names(wanted)[0] == first
    metric = rooms.find("metrics", first)()
    assert {metric.score(Row(one, one)) for one in wanted} == {1.0}
    assert not any(_harm.has_loop(one) for one in wanted)


def answer(text: str, stopped: bool = True) -> Answer:
    return Answer(text, stopped, 1, 1, 0.1)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 60,
        "I am sorry. " * 5,
        "It begins well. " + "and then and then " * 8,
        "はい、" * 20,
        "x" + "A sentence that is longer than forty characters, said again. " * 3,
        "no\n" * 20 + "but it ends",
        "\U0001f600a" * 30,
    ],
)
def test_a_text_in_direct_succession_is_a_loop(text: str) -> None:
    assert _harm.has_loop(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "No, no, no!",
        "ha" * 29,
        "-" * 200,
        "| --- " * 30 + "|",
        "A sentence that is longer than forty characters, said again. " * 2,
        "\n".join(f"{n}. Take {n} apples and put them into the bowl." for n in range(12)),
        TEXT.format(1) + TEXT.format(2),
    ],
)
def test_what_people_write_is_no_loop(text: str) -> None:
    assert not _harm.has_loop(text)


def test_harms_are_told_for_each_answer_and_as_shares() -> None:
    answers = [answer("fine"), answer(" \n\u200b"), answer("so " * 40, stopped=False), answer("cut", stopped=False)]
    assert _harm.harms(answers) == {
        "empty": [False, True, False, False],
        "loop": [False, False, True, False],
        "not_stopped": [False, False, True, True],
    }
    assert {name: one.value for name, one in _harm.shares(answers).items()} == {
        "empty": 0.25,
        "loop": 0.25,
        "not_stopped": 0.5,
    }
    assert _harm.shares([]) == {}


def test_rows_to_which_a_metric_does_not_apply_count_in_neither_model() -> None:
    wanted = ["{}", "text", "[1]", "[2]"]
    ours = scores(JsonMatch(), [Row(said, one) for said, one in zip(wanted, wanted, strict=True)])
    theirs = scores(JsonMatch(), [Row("[1]", one) for one in wanted])
    assert ours.values == [1, None, 1, 1]
    mean = theirs.mean()
    assert mean is not None
    assert (mean.value, mean.n) == (pytest.approx(1 / 3), 3)
    found = ours.against(theirs)
    assert found is not None
    assert (found.n, found.more, found.less) == (3, 2, 0)


def test_no_rows_have_no_mean_and_no_difference() -> None:
    none = scores(JsonMatch(), [Row("a", "b")])
    assert none.mean() is None
    assert none.against(none) is None
    assert scores(ExactMatch(), []).mean() is None
    with pytest.raises(ValueError, match="zip"):
        Scores([1.0], [1.0]).against(Scores([], []))
