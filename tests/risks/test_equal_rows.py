from __future__ import annotations

import random

from tiny.looked import FILE, chat, lines, looked
from tunesmith.risks._contract import Place
from tunesmith.text.example import Example

STORY = "The old keeper climbed the narrow stairs every evening and lit the lamp while the storm came in over the bay"
FILLER = [
    chat(f"what is the {place} number {n}", f"the {place} has the number {n} and no other one")
    for n, place in enumerate(("house", "bridge", "tower", "harbour", "station", "market", "garden", "library"))
]


def test_later_copies_are_told_and_may_be_dropped() -> None:
    (found,) = looked("duplicates", [chat("a", "b"), chat("c", "d"), chat("a", "b "), *FILLER, chat("a", "b")])
    assert found.n_rows == 2
    assert found.drop == found.places == (Place(FILE, 3), Place(FILE, 12))
    assert found.what == "2 rows (17 %) are copies of an earlier one"


def test_rows_that_differ_in_a_turn_a_tool_or_what_is_learnt_are_no_copies() -> None:
    one = chat("a", "b")
    tool = {"type": "function", "function": {"name": "add"}}
    more = (*one.messages, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"})
    rows = [
        one,
        Example(one.messages, one.learn, (tool,)),
        Example(more, (False, True, False, True)),
        Example(more, (False, False, False, True)),
        chat("ab", ""),
        chat("", "ab"),
        Example(text="ab"),
    ]
    assert looked("duplicates", rows) == ()


def test_a_thousand_copies_are_dropped_and_five_are_shown() -> None:
    (found,) = looked("duplicates", [chat("a", "b")] * 1001)
    assert found.severity == "high"
    assert len(found.drop) == found.n_rows == 1000
    assert lines(found) == [2, 3, 4, 5, 6]


def test_a_test_row_that_is_learnt_is_a_leak_and_no_copy() -> None:
    rows, test = [chat("a", "b"), *FILLER], [chat("a", "b"), chat("x", "y"), chat("a", "c")]
    whole, asked = looked("leaks", rows, test)
    assert (whole.n_rows, lines(whole), whole.severity) == (1, [10], "high")
    assert (asked.n_rows, lines(asked)) == (1, [12])
    assert "with another answer" in asked.what
    assert looked("duplicates", rows, test) == ()


def test_a_leak_of_few_test_rows_is_low_and_without_test_rows_there_is_none() -> None:
    test = [chat("a", "b"), *(chat(f"question {n}", f"answer {n}") for n in range(200))]
    (found,) = looked("leaks", [chat("a", "b"), *FILLER], test)
    assert found.severity == "low"
    assert looked("leaks", [chat("a", "b"), chat("a", "b")]) == ()


def test_one_system_prompt_is_no_question_that_leaks() -> None:
    rows = [
        Example(({"role": "system", "content": "s"}, {"role": "assistant", "content": x}), (False, True)) for x in "ab"
    ]
    assert looked("leaks", rows[:1], rows[1:]) == ()
    assert looked("contradictions", rows) == ()


def test_one_prompt_with_two_answers_is_a_contradiction_with_all_its_rows() -> None:
    rows = [chat("a", "b"), chat("c", "d"), chat("a", "e"), chat("a", "b"), chat("a", "f", system="s")]
    (found,) = looked("contradictions", rows)
    assert found.n_rows == 3
    assert lines(found) == [1, 3, 4]
    assert found.what == "1 prompt has different answers, in 3 rows (60 %): such as rows.jsonl, line 1, and line 3"
    assert found.severity == "low"


def test_contradicting_labels_are_high_and_copies_or_test_rows_contradict_nothing() -> None:
    labelled = [chat(f"sentence {n}", ("good", "bad")[n % 2]) for n in range(60)]
    (found,) = looked("contradictions", [*labelled, chat("sentence 0", "bad")])
    assert (found.severity, found.n_rows) == ("high", 2)
    assert looked("contradictions", labelled * 2, [chat("sentence 0", "bad")]) == ()


def test_other_capitals_blanks_and_marks_make_a_near_copy() -> None:
    rows = [chat("Play some jazz!", "now"), *FILLER, chat("play  some jazz", "Now."), chat("play some rock", "now")]
    (found,) = looked("near_duplicates", rows)
    assert (found.n_rows, lines(found), found.drop) == (1, [10], ())


def test_typographic_marks_and_accents_are_told_apart_from_letters() -> None:
    rows = [chat("\u201cOù est l\u2019été?\u201d", "là"), chat('"où est l\'été"', "là"), chat("ou est l'ete", "la")]
    (found,) = looked("near_duplicates", rows)
    assert lines(found) == [2]


def test_chinese_is_compared_by_the_letter() -> None:
    long = "今天天气很好我们去公园散步然后在湖边吃午饭晚上回家看电影直到很晚才睡觉第二天早上又去上班工作到傍晚"
    (found,) = looked(
        "near_duplicates", [chat(long, "好"), chat(long.replace("湖", "河"), "好"), chat("今天下雨", "不好")]
    )
    assert lines(found) == [2]


def test_a_word_changed_in_a_long_row_makes_a_near_copy_and_in_a_short_one_another_row() -> None:
    long = [chat(STORY + " " + STORY[::-1], "x"), chat(STORY.replace("storm", "rain") + " " + STORY[::-1], "x")]
    (found,) = looked("near_duplicates", [*long, *FILLER])
    assert lines(found) == [2]
    assert looked("near_duplicates", [chat("play some jazz", "ok"), chat("play some rock", "ok"), *FILLER]) == ()


def test_equal_rows_are_not_told_again_as_near_ones() -> None:
    assert looked("near_duplicates", [chat(STORY, "x")] * 3) == ()


def test_other_questions_on_one_long_text_are_no_near_copies() -> None:
    draw = random.Random(1)
    passage = " ".join(f"word{draw.randrange(5000)}" for _ in range(150))
    rows = [
        chat(f"{passage} who built the first harbour of this town and in which year was that", "a merchant in 1850"),
        chat(f"{passage} how many ships were lost at sea during the long winter of the war", "nobody counted them"),
    ]
    assert looked("near_duplicates", rows) == ()


def test_what_the_system_says_makes_no_rows_alike() -> None:
    assert looked("near_duplicates", [chat(f"{n} apples", f"{n * 7} pears", system=STORY * 5) for n in range(20)]) == ()


def test_a_template_around_short_words_makes_no_rows_alike() -> None:
    rows = [chat(f"{STORY} {STORY[::-1]} Now sort this word: {hash_word(n)}", f"sorted {n}") for n in range(300)]
    assert looked("near_duplicates", rows) == ()


def hash_word(n: int) -> str:
    return "".join(chr(97 + (n * 7919 + k * 104729) % 26) for k in range(6)) + str(n)


def test_the_order_of_rows_changes_no_count() -> None:
    rows = [chat(STORY, "x"), chat(STORY.upper(), "x"), chat(STORY, "y"), chat(STORY, "x"), *FILLER]
    shuffled = random.Random(3).sample(rows, len(rows))
    counts = {
        risk: [one.n_rows for one in looked(risk, rows)] for risk in ("duplicates", "near_duplicates", "contradictions")
    }
    assert counts == {"duplicates": [1], "near_duplicates": [1], "contradictions": [3]}
    assert counts == {risk: [one.n_rows for one in looked(risk, shuffled)] for risk in counts}
