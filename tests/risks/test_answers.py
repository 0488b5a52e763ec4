from __future__ import annotations

import random

import pytest

from tiny.looked import chat, lines, looked
from tunesmith.risks._contract import Found
from tunesmith.text.example import Example

LONG = "The answer takes some more words so that it says what is so and why it is so in this case, number {}."
GOOD = [chat(f"question {n}", LONG.format(n)) for n in range(60)]


def of(word: str, found: tuple[Found, ...]) -> list[int]:
    return [line for one in found if word in one.what for line in lines(one)]


@pytest.mark.parametrize(
    ("word", "ask", "answer"),
    [
        ("nothing", "what is it", ""),
        ("one word", "is it so", "Yes."),
        ("repeat", "What is the time?", "what is the time"),
        ("refuse", "who are you", "As an AI language model, I have no name."),
        ("refuse", "help me", "I'm sorry, but I can't do that."),
        ("refuse", "help me", "I\u2019m sorry, I cannot assist with that request."),
        (
            "middle",
            "tell me",
            "It goes on for a while so that it is long enough to tell, but then it stops in the",
        ),
    ],
)
def test_thin_answers_are_told_by_what_they_are(word: str, ask: str, answer: str) -> None:
    found = looked("thin_answers", [*GOOD, chat(ask, answer)])
    assert of(word.removesuffix("s"), found) == [61]
    assert len(found) == 1


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        ("who", "As an assistant professor she taught for years."),
        ("who", "I am an artist, and sorry for nothing."),
        (
            "list",
            "Here is a list of all that there is to be said about it in lines:\n- one thing\n- another one and more",
        ),
        ("zh", "\u6211\u89c9\u5f97\u5f88\u597d\u6211\u4eec\u8d70\u5427"),
        ("json", '{"a":1}'),
        ("code", "print(1)"),
    ],
)
def test_good_answers_are_left_alone(ask: str, answer: str) -> None:
    assert looked("thin_answers", [*GOOD, chat(ask, answer)]) == ()


def test_one_word_answers_that_are_the_task_are_left_alone() -> None:
    labels = [chat(f"sentence {n}", ("good", "bad", "neither")[n % 3]) for n in range(60)]
    assert looked("thin_answers", labels) == ()
    entities = [chat(f"who is {n}", f"Person{n}") for n in range(60)]
    assert looked("thin_answers", [*entities, *GOOD]) == ()


def test_answers_of_which_none_ends_with_a_mark_are_not_cut() -> None:
    assert looked("thin_answers", [chat(str(n), LONG.format(n)[:-1] + " as we said") for n in range(60)]) == ()


def test_a_call_of_a_tool_is_an_answer() -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {}}}
    turns = ({"role": "user", "content": "add"}, {"role": "assistant", "content": "", "tool_calls": [call]})
    assert looked("thin_answers", [*GOOD, Example(turns, (False, True))]) == ()


def test_raw_text_has_no_answers() -> None:
    rows = [Example(text="yes"), Example(text="no")]
    for risk in ("thin_answers", "unbalanced", "contradictions", "leaks"):
        assert looked(risk, rows, rows[:1] if risk != "leaks" else ()) == ()


def test_one_label_for_all_rows_is_high() -> None:
    (found,) = looked("unbalanced", [chat(str(n), "yes") for n in range(40)])
    assert (found.severity, found.n_rows) == ("high", 40)


def test_a_label_for_nearly_all_rows_and_one_with_few_are_low() -> None:
    most, few = looked("unbalanced", [chat(str(n), "yes" if n < 97 else "no") for n in range(100)])
    assert (most.severity, most.n_rows) == ("low", 97)
    assert (few.severity, few.n_rows, lines(few)) == ("low", 3, [98])
    assert few.what == "1 of 2 labels (50 %) has fewer than 5 rows: 'no' (3)"


def test_labels_that_differ_only_in_how_they_are_written_are_told() -> None:
    labels = ["top_up", "Top up", "other"]
    (found,) = looked("unbalanced", [chat(str(n), labels[0 if n < 40 else 1 + n % 2]) for n in range(60)])
    assert found.n_rows == 10
    assert "'top_up' (40) and 'Top up' (10)" in found.what


def test_balanced_labels_and_free_answers_are_left_alone() -> None:
    assert looked("unbalanced", [chat(str(n), ("a", "b")[n % 2]) for n in range(40)]) == ()
    assert looked("unbalanced", [chat(str(n), f"answer {n}") for n in range(40)]) == ()
    assert looked("unbalanced", [*GOOD, *[chat(str(n), "yes") for n in range(40)]]) == ()


def test_what_is_told_is_the_same_each_time_and_its_counts_in_any_order() -> None:
    rows = [chat(str(n), ("yes", "no", "Yes")[(n > 90) + (n > 95)]) for n in range(100)]
    shuffled = random.Random(1).sample(rows, len(rows))
    assert looked("unbalanced", rows) == looked("unbalanced", rows)
    assert [one.what for one in looked("unbalanced", rows)] == [one.what for one in looked("unbalanced", shuffled)]
