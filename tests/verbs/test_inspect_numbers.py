"""What an inspection counts, by hand."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tiny.models import save, tokenizer
from tunesmith.errors import Fault, RecipeError
from tunesmith.learn.families import Sharing, share_computed
from tunesmith.objectives.sft import Sft
from tunesmith.text.example import Example, Tokens
from tunesmith.text.scripts import count_letters
from tunesmith.text.spelled import pieces
from tunesmith.text.template import Text
from tunesmith.verbs._drawn import Drawn
from tunesmith.verbs._fault_groups import ANY_KEY, MOST_GROUPS, MOST_KEPT, Faults
from tunesmith.verbs._lengths import Bar, Lengths
from tunesmith.verbs._row_numbers import MOST_ANSWERS, Answers
from tunesmith.verbs._what_is_learnt import Learnt, ends_in_end, n_ends
from tunesmith.verbs.inspect import inspect


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save(tmp_path_factory.mktemp("model")))


def chat(*said: str, **more: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[at % 2], "content": one} for at, one in enumerate(said)], **more}


def written(folder: Path, *rows: object, name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in rows))
    return str(path)


def lengths(*given: int) -> Lengths:
    made = Lengths()
    for one in given:
        made.add(one)
    return made


def text_of(template: str | None, ends: frozenset[int] | None = None) -> Text:
    words = tokenizer(template)
    return Text(words, frozenset([words.eos_token_id]) if ends is None else ends)


def test_mean_median_p95_and_max_are_those_of_the_hand() -> None:
    made = lengths(*range(1, 101))
    told = made.as_json()
    assert (told["total"], told["mean"], told["median"], told["p95"], told["max"]) == (5050, 50.5, 50, 95, 100)
    assert Lengths().as_json() == {"total": 0, "mean": 0.0, "median": 0, "p95": 0, "max": 0, "histogram": []}


def test_bars_have_one_round_width_and_hold_every_row() -> None:
    assert lengths(3, 3, 5).bars() == (Bar(3, 3, 2), Bar(4, 4, 0), Bar(5, 5, 1))
    assert lengths(0, 19, 20, 99).bars(10) == (
        Bar(0, 9, 1),
        Bar(10, 19, 1),
        Bar(20, 29, 1),
        *(Bar(low, low + 9, 0) for low in range(30, 90, 10)),
        Bar(90, 99, 1),
    )


def test_a_few_rows_that_are_far_longer_stand_in_an_open_bar() -> None:
    bars = lengths(*[10] * 500, *[11] * 499, 90_000).bars()
    assert bars == (Bar(10, 10, 500), Bar(11, 11, 499), Bar(12, None, 1))
    assert bars[-1].name == "over 11"


def test_letters_are_counted_by_script_and_nothing_else_is() -> None:
    found: Counter[str] = Counter()
    count_letters("abc 12!", found)
    count_letters("жук é 漢字 ひ \u00b5 🙂", found)
    assert found == {"Latin": 4, "Cyrillic": 3, "Han": 2, "Hiragana": 1}


def test_answers_that_repeat_are_labels_and_others_are_not() -> None:
    labels, free, many = Answers(), Answers(), Answers()
    for answer in ("yes", "no", "yes", "yes"):
        labels.see(answer)
    for number in range(4):
        free.see(f"answer {number}")
    for number in range(3 * (MOST_ANSWERS + 1)):
        many.see(str(number % (MOST_ANSWERS + 1)))
    assert labels.counts == (("yes", 3), ("no", 1))
    assert free.counts == many.counts == ()


def test_like_faults_stand_together_whatever_their_index() -> None:
    faults = Faults()
    faults.see(Fault("a/b", f"said {n}", "mend", "f", n, f"messages[{n}].role") for n in range(1, 9))
    faults.see([Fault("c/d", "whole base", "other")] * 3)
    first, second = faults.groups
    assert (first.code, first.key, first.n, [one.line for one in first.places]) == (
        "a/b",
        "messages[*].role",
        8,
        [1, 2, 3, 4, 5],
    )
    assert (second.code, second.n, faults.total) == ("c/d", 1, 9)


def test_the_list_of_faults_and_their_kinds_are_bounded_and_the_count_is_not() -> None:
    faults = Faults()
    faults.see(Fault("a/b", "x", "y", "f", n, f"key{n}") for n in range(1, MOST_KEPT + 6))
    assert (faults.total, len(faults.kept), len(faults.groups)) == (MOST_KEPT + 5, MOST_KEPT, MOST_GROUPS + 1)
    assert (faults.groups[0].key, faults.groups[0].n) == (ANY_KEY, MOST_KEPT + 5 - MOST_GROUPS)


def test_those_that_are_drawn_are_from_anywhere_and_in_order() -> None:
    drawn: Drawn[int] = Drawn(100)
    for one in range(10_000):
        drawn.see(one)
    kept = drawn.in_order
    assert kept == sorted(set(kept))
    assert len(kept) == 100
    assert 35 < sum(one < 5000 for one in kept) < 65
    assert sorted(drawn.shuffled) == kept != drawn.shuffled


def test_what_sixteen_rows_begin_with_alike_counts_once() -> None:
    """100 shared and 1 of its own each: 16 x 101 tokens, of which 100 + 16 are computed."""
    ids = [array("i", [*range(100), 1000 + row]) for row in range(16)]
    assert share_computed(Sharing().families(range(16), ids), [101] * 16) == pytest.approx(116 / 1616)
    assert share_computed(Sharing(longest=50).families(range(16), ids), [101] * 16) == 1.0


def test_rows_that_begin_alike_save_what_they_share(tmp_path: Path, model: str) -> None:
    system = {"role": "system", "content": "be kind and short, and answer in the words of the asker, please " * 3}
    rows = [{"messages": [system, *chat(f"{n}", "yes")["messages"]]} for n in range(16)]
    found = inspect(written(tmp_path, *rows), model=model)
    assert found.learnt is not None
    n_all = found.learnt.lengths.total
    assert found.learnt.n_looked_at == 16
    assert 0.6 < found.learnt.share_saved() < 15 / 16
    computed = found.as_json()["numbers"]["shared_beginning"]["share"]
    assert computed == pytest.approx(found.learnt.share_saved(), abs=1e-4)
    assert n_all == found.learnt.n_prompt + found.learnt.n_learnt


def test_the_end_of_every_turn_is_shown_to_be_learnt(tmp_path: Path, model: str) -> None:
    unlearnt = chat("a", "b", "c", "d")
    unlearnt["messages"][1]["weight"] = 0
    found = inspect(written(tmp_path, chat("a", "b", "c", "d"), unlearnt), model=model)
    ends = found.as_json()["end_of_turn"]
    assert ends == {"tokens": ["<|im_end|>"], "turns": 3, "learnt": 3, "not_learnt": []}


def test_an_end_without_loss_is_not_counted_as_learnt() -> None:
    ends = frozenset([9])
    assert n_ends([Tokens((1, 2, 9), (0.0, 1.0, 1.0))], ends) == 1
    assert n_ends([Tokens((1, 2, 9), (0.0, 1.0, 0.0))], ends) == 0
    assert ends_in_end([Tokens((1, 2), (0.0, 1.0)), Tokens((2, 9), (0.0, 1.0))], ends) == 1
    assert ends_in_end([Tokens((1, 2, 3), (0.0, 1.0, 1.0))], ends) == 0


def test_a_template_that_does_not_learn_the_end_is_shown_as_no() -> None:
    """The template ends a turn with a blank line, and the tokenizer has no end token either."""
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n\n' }}{% endfor %}"
    template += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    text = text_of(template, frozenset())
    text.tokenizer.eos_token = None
    learnt = Learnt(Sft(), text, 100, None)
    messages = tuple(chat("hi", "ho")["messages"])
    weighed = learnt.see(Example(messages, (False, True), file="f", line=7))
    assert [fault.code for fault in weighed.faults] == ["objective/no-end-token"]
    assert (learnt.ends.n_turns, learnt.ends.n_learnt, learnt.ends.missing) == (1, 0, [("f", 7)])


def test_rows_over_the_limit_are_named_with_their_tokens(tmp_path: Path, model: str) -> None:
    data = written(tmp_path, chat("hi", "ho"), chat("hi", "ho " * 100))
    found = inspect(data, model=model, max_length=60)
    told = found.as_json()["truncated"]
    assert (told["max_length"], told["refused"], told["in_pieces"]) == (60, 1, 0)
    (row,) = told["rows"]
    assert (row["file"], row["line"]) == (data, 2)
    assert f"{row['tokens']} tokens" in found.faults[0].what
    assert found.faults[0].code == "data/too-long"


def test_texts_that_come_in_pieces_are_counted(tmp_path: Path, model: str) -> None:
    found = inspect(written(tmp_path, {"text": "a"}, {"text": "quick brown " * 90}), model=model, max_length=50)
    told = found.as_json()
    assert (told["truncated"]["refused"], told["truncated"]["in_pieces"]) == (0, 1)
    assert (told["end_of_turn"]["turns"], told["end_of_turn"]["learnt"]) == (2, 2)


def test_turns_roles_tools_and_system_prompts_are_counted(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    calls = chat("a", "b")
    calls["messages"][1]["tool_calls"] = [call]
    system = {"messages": [{"role": "system", "content": "be kind"}, *chat("a", "b")["messages"]]}
    numbers = inspect(written(tmp_path, system, system, {**calls, "tools": [tool]})).as_json()["numbers"]
    assert numbers["roles"] == {"user": 3, "assistant": 3, "system": 2}
    assert (numbers["turns"]["total"], numbers["turns"]["max"]) == (8, 3)
    assert numbers["system_prompts"] == {"rows": 2, "different": 1}
    assert (numbers["rows_with_tools"], numbers["rows_with_tool_calls"]) == (1, 1)
    assert numbers["answers"] == [{"answer": "b", "count": 3}]
    assert numbers["characters"]["total"] == 2 * (7 + 2) + 2
    assert numbers["scripts"] == {"Latin": 1.0}


def test_a_sample_is_tokenized_and_the_rest_is_only_read(tmp_path: Path, model: str) -> None:
    rows = [chat("hello", f"say {number}") for number in range(50)]
    found = inspect(written(tmp_path, *rows), model=model, sample=10)
    assert (found.n_usable, found.n_sampled) == (50, 10)
    assert found.learnt is not None
    assert found.learnt.n_rows == found.as_json()["numbers"]["tokenized_rows"] == 10
    assert found.numbers.n == 50


def test_test_rows_that_are_learnt_are_a_risk_and_strict_makes_it_a_no(tmp_path: Path) -> None:
    data = written(tmp_path, chat("a", "b"), chat("c", "d"))
    test = written(tmp_path, chat("c", "d"), name="test.jsonl")
    found = inspect(data, test=test)
    (leak,) = [risk for risk in found.risks if risk.risk == "leaks"]
    assert leak.severity == "high"
    assert (found.n_rows, found.n_test_rows, found.ok) == (2, 1, True)
    assert not inspect(data, test=test, strict=True).ok


def test_files_of_several_formats_are_inspected_together(tmp_path: Path) -> None:
    one = written(tmp_path, chat("a", "b"))
    two = written(tmp_path, {"prompt": "c", "completion": "d"}, name="two.jsonl")
    held_out = written(tmp_path, {"instruction": "e", "output": "f"}, name="test.jsonl")
    found = inspect([one, two], test=held_out)
    assert (found.format, found.n_usable, found.n_test_rows, found.n_faults) == ("messages, completion", 2, 1, 0)


def test_the_pieces_of_a_text_are_all_of_it_and_a_character_of_several_tokens_is_one() -> None:
    text = text_of(None)
    ids = text.encode("héllo 漢<|im_end|>")
    made = list(pieces(ids, [1.0] * len(ids), text))
    assert "".join(one.text for one in made) == text.spell(ids)
    assert [one.text for one in made if one.special] == ["<|im_end|>"]
    assert [len(one.ids) for one in made if one.text == "漢"] == [3]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"sample": 0, "model": "x"}, "inspect/sample"),
        ({"sample": 3}, "inspect/no-model"),
        ({"html": "page.txt"}, "inspect/not-html"),
        ({"fix": "copy.json"}, "inspect/not-jsonl"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, asked: dict[str, Any], code: str) -> None:
    with pytest.raises(RecipeError, match=code):
        inspect(written(tmp_path, chat("a", "b")), **asked)


def test_a_limit_and_a_sample_that_are_both_wrong_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        inspect(written(tmp_path, chat("a", "b")), sample=0, max_length=0, model="x")
    assert [fault.code for fault in caught.value.faults] == ["inspect/max-length", "inspect/sample"]


def test_many_rows_are_kept_in_a_memory_that_does_not_grow_with_them(tmp_path: Path) -> None:
    """What Python takes at most for 400 rows and for 100 differs by less than 1,000 bytes a row; a row has 10,000."""
    import tracemalloc

    taken = []
    for n in (100, 400):
        data = written(tmp_path, *[chat(f"{number} " * 1000, "word " * 1500) for number in range(n)], name=f"{n}.jsonl")
        tracemalloc.start()
        found = inspect(data)
        taken.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found.n_usable == n
    assert taken[1] - taken[0] < 300 * 1000
