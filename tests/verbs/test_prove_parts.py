"""What a proof is put together from: likeness, the prompt with examples, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tiny.models import tokenizer
from tunesmith.errors import DataError
from tunesmith.machine import forget_peak_memory, peak_memory_bytes
from tunesmith.metrics.exact_match import ExactMatch
from tunesmith.metrics.label import Label
from tunesmith.runtimes._contract import Answer
from tunesmith.text.template import Text
from tunesmith.verbs._forgotten import Neutral, forgotten
from tunesmith.verbs._page_of_proof import LEFT, RIGHT, WIDTH, _lengths, _wholes
from tunesmith.verbs._proof_arms import Arm, arm
from tunesmith.verbs._proof_asker import Asker, Said, Speaker
from tunesmith.verbs._proof_prompt import Prompter, Room, prompted
from tunesmith.verbs._proof_rows import Question
from tunesmith.verbs._proof_verdict import judge
from tunesmith.verbs._similar import Similar

TEXTS = ["a red fox", "the lazy dog", "my card was stolen", "cards that were stolen", ""]


def test_the_most_similar_text_comes_first_and_parts_of_words_count() -> None:
    similar = Similar(TEXTS)
    assert similar.nearest("a stolen card", 2) == [2, 3]
    assert similar.nearest("DOGS", 1) == [1], "dogs and dog share their letters"
    assert similar.nearest("", 2) == [0, 1], "nothing is like it: in their order"
    assert similar.nearest("fox", 9) == [0, 1, 2, 3, 4]
    assert Similar([]).nearest("fox", 2) == []
    assert Similar(["猫が好きです", "犬が好きです"]).nearest("犬が好き", 1) == [1]


def test_a_rare_word_counts_for_more_than_a_frequent_one() -> None:
    assert Similar(["the cat the cat", "the fox", "the owl", "the bee"]).nearest("the fox", 1) == [1]


def question(asked: str, wanted: str = "yes", system: str = "") -> Question:
    before = [{"role": "system", "content": system}] if system else []
    return Question((*before, {"role": "user", "content": asked}), wanted)


@pytest.fixture(scope="module")
def text() -> Text:
    return Text(tokenizer(), frozenset())


def said(asked: Sequence[object]) -> list[str]:
    return [str(turn["content"]) for turn in asked]  # type: ignore[index]


def test_the_examples_stand_behind_the_system_prompt_the_most_similar_last(text: Text) -> None:
    shown = [question(one, f"answer {at}", system="of the example") for at, one in enumerate(TEXTS[:4])]
    prompter = Prompter(shown, None, Room(text, 10_000, 8))
    asked = prompter.ask(question("a stolen card", system="Be brief."), 2)
    assert said(asked) == ["Be brief.", TEXTS[3], "answer 3", TEXTS[2], "answer 2", "a stolen card"]
    given = Prompter(shown, "Given.", Room(text, 10_000, 8)).ask(question("a stolen card", system="Be brief."), 0)
    assert said(given) == ["Given.", "a stolen card"]


def test_examples_for_which_there_is_no_room_are_left_out_the_least_similar_first(text: Text) -> None:
    shown = [question("a stolen card " * 20), question("a stolen card")]
    one = question("a stolen card!")
    n = len(text.prompt(Prompter(shown[1:], None, Room(text, 10_000, 8)).ask(one, 1)).ids)
    nearest_first = Similar([each.asked for each in shown]).nearest(one.asked, 2)
    room = Room(text, n, 8)
    left = said(Prompter(shown, None, room).ask(one, 2))
    assert left == (["a stolen card", "yes", "a stolen card!"] if nearest_first[0] == 1 else ["a stolen card!"])
    assert said(Prompter(shown, None, Room(text, n - 1, 8)).ask(one, 2)) == ["a stolen card!"]


def test_a_system_prompt_that_the_template_refuses_is_a_fault(text: Text, tmp_path: Path) -> None:
    strict = tokenizer("{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}hi")
    room = Room(Text(strict, frozenset()), 100, 8)
    speaker = Speaker("base", "torch", "", "0", 1, nullcontext)
    with pytest.raises(DataError, match="no system here") as caught:
        prompted([question("a")], [], "Be brief.", room, ExactMatch(), Asker(speaker, tmp_path), 1)
    assert caught.value.faults[0].code == "prove/template-refuses"
    assert prompted([question("a")], [], None, room, ExactMatch(), Asker(speaker, tmp_path), 1).n_examples == 0


def an_arm(name: str, right: Sequence[bool], *, prompt: int = 10, seconds: Sequence[float] | float = 1.0) -> Arm:
    times = [seconds] * len(right) if isinstance(seconds, float) else seconds
    answers = [
        Said(Answer("yes" if one else "no", True, prompt, 1, time), True)
        for one, time in zip(right, times, strict=True)
    ]
    speaker = Speaker(name, "torch", "", "", 1, nullcontext)
    return arm(
        name, speaker, "", [question(str(at)) for at in range(len(right))], answers, {"exact_match": ExactMatch()}
    )


@pytest.mark.parametrize(
    ("right", "prompt", "verdict", "sentence"),
    [
        ([True] * 200, 100, "ship", "Ship: the tuned model is better: 100.0% against 50.0%"),
        ([False] * 200, 10, "do not ship", "Do not ship: prompt the base instead"),
        ([True, False] * 100, 10, "ship", "Ship: the tuned model is as good, and costs less"),
        ([True, False] * 100, 100, "cannot tell", "Cannot tell"),
    ],
)
def test_quality_decides_and_where_it_is_equal_the_cost(
    right: list[bool], prompt: int, verdict: str, sentence: str
) -> None:
    base, other = an_arm("base", [False] * 200), an_arm("base + prompt", [True, False] * 100, prompt=100)
    judged = judge(ExactMatch(), an_arm("tuned", right, prompt=prompt), (base, other), (), 60.0)
    assert judged.against is other
    assert judged.verdict == verdict
    assert judged.sentence.startswith(sentence)


def test_what_is_never_right_is_not_shipped_however_cheap_it_is() -> None:
    base = an_arm("base", [False] * 500, prompt=100)
    judged = judge(ExactMatch(), an_arm("tuned", [False] * 500, prompt=10), (base,), (), 60.0)
    assert [one.says for one in judged.lines] == ["cannot tell", "yes", "cannot tell"]
    assert judged.verdict == "cannot tell"


def test_a_loss_to_the_base_as_it_is_names_no_prompt() -> None:
    base = an_arm("base", [True] * 20)
    judged = judge(ExactMatch(), an_arm("tuned", [False] * 20), (base, an_arm("base + prompt", [False] * 20)), (), 0.0)
    assert judged.sentence.startswith("Do not ship: use the base as it is instead")


@pytest.mark.parametrize(
    ("seconds", "says", "payback"), [(0.5, "yes", 120), (0.97, "cannot tell", None), (2.0, "no", None)]
)
def test_the_tuning_is_paid_back_by_the_time_that_it_saves(seconds: float, says: str, payback: int | None) -> None:
    right = [True, False] * 10
    judged = judge(ExactMatch(), an_arm("tuned", right, seconds=seconds), (an_arm("base", right),), (), 60.0)
    assert judged.lines[2].says == says
    assert judged.payback_requests == payback


def test_a_file_that_is_worse_than_the_model_and_new_harm_are_warned_of() -> None:
    tuned, base = an_arm("tuned", [True] * 50), an_arm("base", [False] * 50)
    judged = judge(ExactMatch(), tuned, (base,), (an_arm("tuned gguf q2", [False] * 50),), 0.0)
    assert len(judged.warnings) == 1
    assert judged.warnings[0].startswith("tuned gguf q2 in torch is worse")


def test_the_lengths_of_answers_are_drawn_with_nine_tenths_of_them() -> None:
    one = an_arm("tuned", [True] * 41)
    lengths = [replace(said, answer=replace(said.answer, n_answer_tokens=at)) for at, said in enumerate(one.said)]
    (mark,) = _lengths([replace(one, said=tuple(lengths))]).marks
    assert mark.told == "20 (2 to 38)"
    ends = LEFT, WIDTH - RIGHT  # none, and the longest of 40 tokens
    assert [mark.low, mark.x, mark.high] == [
        pytest.approx(ends[0] + (ends[1] - ends[0]) * at / 40) for at in (2, 20, 38)
    ]


def test_what_a_metric_says_of_all_rows_stands_in_a_table() -> None:
    questions = [question(str(at), "tea" if at < 3 else "milk") for at in range(4)]
    said = [Said(Answer(one, True, 1, 1, 1.0), True) for one in ("tea", "tea", "milk", "rum")]
    metrics = {"label": Label(), "exact_match": ExactMatch()}
    arms = [
        arm(name, Speaker(name, runtime, "", "", 1, nullcontext), "", questions, said, metrics)
        for name, runtime in (("base", "torch"), ("tuned", "torch"), ("tuned gguf q8_0", "llama_cpp"))
    ]
    (table,) = _wholes(SimpleNamespace(chosen=metrics, arms=arms))  # type: ignore[arg-type]
    assert table.heads == ("macro_f1", "outside", "n_labels")
    # F1 of tea: 2 right of 2 said and 3 wanted, 80 %; of milk: none of 1 and 1. Rum is no label.
    assert table.rows == tuple(
        (name, "40.0%", "25.0%", "2") for name in ("base", "tuned", "tuned gguf q8_0 in llama_cpp")
    )
    assert table.confused == (
        {"wanted": "milk", "said": "rum", "rows": 1},
        {"wanted": "tea", "said": "milk", "rows": 1},
    )


class Holds:
    """Answers while it holds as many bytes as it is asked to."""

    def answer(self, ask: str, max_tokens: int) -> Answer:
        return Answer(str(len(b"x" * int(ask))), True, 1, 1, 0.0)


@pytest.mark.skipif(not forget_peak_memory(), reason="this system does not count memory anew; run it on Linux")
def test_memory_is_that_of_what_was_asked_and_not_of_what_came_before(tmp_path: Path) -> None:
    speaker = Speaker("base", "torch", "", "0" * 16, 1, lambda: nullcontext(Holds()))
    little, much = ["1", "2"], ["200000000"]
    told = []
    with Asker(speaker, tmp_path) as asker:
        for asks in (little, much, ["3"]):
            asker.answers(asks, 8, "ask")
            assert asker.peak_memory_bytes is not None
            told.append(asker.peak_memory_bytes)
    assert told[1] - told[0] == pytest.approx(2e8, rel=0.1)
    assert told[2] == pytest.approx(told[0], rel=0.1)
    with Asker(speaker, tmp_path) as again:
        again.answers(much, 8, "ask")
        assert (again.peak_memory_bytes, again.n_new) == (told[1], 0)


@pytest.mark.skipif(not forget_peak_memory(), reason="this system does not count memory anew; run it on Linux")
def test_what_earlier_work_has_freed_is_not_counted() -> None:
    """A run has tuned in the same process; the last block that it took is still in use, above all that it freed."""
    forget_peak_memory()
    before = peak_memory_bytes()
    blocks = [b"x" * 60_000 for _ in range(4_000)]
    last = b"y" * 60_000
    del blocks
    forget_peak_memory()
    after = peak_memory_bytes()
    assert last
    assert before is not None
    assert after is not None
    assert after - before < 5e7


def test_what_was_forgotten_counts_every_token_once() -> None:
    found = forgotten(Neutral([[1.0], [2.0, 2.0, 2.0]], ["Rome."]), Neutral([[2.0], [2.0, 2.0, 2.0]], ["no"]))
    assert found is not None
    assert found["before"]["value"] == 1.75
    assert found["after"]["value"] == 2.0
    assert found["difference"]["value"] == 0.25
    assert found["answers"] == [{"asked": "What is the capital of Italy?", "before": "Rome.", "after": "no"}]
    assert forgotten(Neutral([[]]), Neutral([[1.0]])) is None
