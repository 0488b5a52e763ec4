from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith import say
from tunesmith.formats._reading import Reading, read
from tunesmith.formats._split import shared, split
from tunesmith.formats.messages import Messages
from tunesmith.text.example import Example

USER, ANSWER = {"role": "user", "content": "ask"}, {"role": "assistant", "content": "answer"}


def one(*messages: Any, **keys: Any) -> Example:
    result = Messages().read({"messages": list(messages), **keys}, "f", 1)
    assert isinstance(result, Example), result
    return result


def written(tmp_path: Path, text: str | bytes, name: str = "rows.jsonl") -> Reading:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(str(tmp_path / name))


def test_only_assistant_turns_may_carry_loss_and_weight_0_takes_it_away() -> None:
    example = one(USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1}, USER, ANSWER)
    assert example.learn == (False, False, False, True, False, True)
    assert all("weight" not in message for message in example.messages)


def test_developer_is_system() -> None:
    assert one({"role": "developer", "content": "be brief"}, USER, ANSWER).messages[0]["role"] == "system"


def test_parts_of_text_are_joined() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    assert one({"role": "user", "content": parts}, ANSWER).messages[0]["content"] == "Hello"


def test_arguments_become_the_mapping_that_templates_want() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": [1, 2]}'}}
    example = one(
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        ANSWER,
        tools=[{"type": "function", "function": {"name": "add"}}],
        parallel_tool_calls=False,
    )
    assert example.messages[1]["tool_calls"][0]["function"]["arguments"] == {"a": [1, 2]}
    assert example.messages[1]["content"] == ""
    assert example.tools[0]["function"]["name"] == "add"


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_thoughts_have_one_name_whatever_a_row_calls_them(key: str) -> None:
    assert one(USER, {**ANSWER, key: "hm"}).messages[1] == {**ANSWER, "reasoning_content": "hm"}


def test_an_answer_that_opens_a_conversation_is_read_and_not_learnt(tmp_path: Path) -> None:
    ear = Ear()
    before = say.hear(ear)
    try:
        rows = [json.dumps({"messages": [ANSWER, USER, ANSWER]})] * 2 + [json.dumps({"messages": [USER, ANSWER]})]
        reading = written(tmp_path, "\n".join(rows))
    finally:
        say.hear(before)
    assert [example.learn for example in reading.examples] == [(False, False, True)] * 2 + [(False, True)]
    assert "an answer that opens a conversation has nothing before it: read, not learnt: 2 rows" in ear.heard


def test_a_last_user_turn_is_no_fault() -> None:
    assert one(USER, ANSWER, USER).learn == (False, True, False)


class Ear(say.Silent):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, text: str) -> None:
        self.heard.append(text)


def test_keys_without_meaning_are_passed_over_and_named(tmp_path: Path) -> None:
    ear = Ear()
    before = say.hear(ear)
    try:
        row = {"id": 7, "messages": [USER, {**ANSWER, "audio": None, "logprobs": [1]}]}
        reading = written(tmp_path, json.dumps(row) + "\n" + json.dumps(row))
    finally:
        say.hear(before)
    assert len(reading.examples) == 2
    assert "id (2), messages[].logprobs (2)" in ear.heard[-1]


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    row = json.dumps({"messages": [USER, ANSWER]})
    reading = written(tmp_path, f"\ufeff{row}\r\n\r\n{row}\n\n\n{row}")
    assert [example.line for example in reading.examples] == [1, 3, 6]


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path: Path) -> None:
    row = json.dumps({"messages": [USER, {**ANSWER, "content": "a\u2028b\x85c"}]}, ensure_ascii=False)
    assert written(tmp_path, row).examples[0].messages[1]["content"] == "a\u2028b\x85c"


def test_a_json_list_is_read_with_its_lines(tmp_path: Path) -> None:
    rows = json.dumps([{"messages": [USER, ANSWER]}] * 2, indent=2)
    reading = written(tmp_path, rows, "rows.json")
    first = rows.splitlines().index("  {") + 1
    second = rows.splitlines().index("  {", first) + 1
    assert [example.line for example in reading.examples] == [first, second]


def test_json_lines_in_a_json_file_are_read(tmp_path: Path) -> None:
    row = json.dumps({"messages": [USER, ANSWER]})
    assert len(written(tmp_path, f"{row}\n{row}\n", "rows.json").examples) == 2


def test_the_byte_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    row = json.dumps({"messages": [USER, ANSWER]}).encode()
    bad = row.replace(b"answer", b"\xff")
    (fault,) = written(tmp_path, row + b"\n" + bad).faults
    at = (row + b"\n" + bad).index(b"\xff")
    assert f"byte {at} (0xff)" in fault.what
    assert fault.line == 2


def test_text_files_are_one_text_each(tmp_path: Path) -> None:
    reading = written(tmp_path, "\ufeffA tale.\n\nIts end.\n", "tale.txt")
    assert reading.format == "text"
    assert reading.examples[0].text == "A tale.\n\nIts end.\n"


def test_globs_and_folders_are_read_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        row = {"messages": [{**USER, "content": name}, ANSWER]}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    (tmp_path / "README.md").write_text("About these rows.")
    for where in (str(tmp_path), str(tmp_path / "*.jsonl"), [str(tmp_path / "a.jsonl"), str(tmp_path)]):
        assert [example.messages[0]["content"] for example in read(where).examples] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("gone.jsonl", "data/no-such-file"),
        ("*.nothing", "data/no-files"),
        ("", "data/no-files"),
        ("a\0b", "data/no-such-file"),
    ],
)
def test_a_name_with_nothing_behind_it_is_a_fault(tmp_path: Path, name: str, code: str) -> None:
    (tmp_path / "gonne.jsonl").write_text("{}")
    empty = tmp_path / "empty"
    empty.mkdir()
    (fault,) = read(str(empty) if not name else str(tmp_path / name)).faults
    assert fault.code == code
    assert name != "gone.jsonl" or "gonne.jsonl" in fault.fix


def test_a_name_that_the_system_refuses_is_a_fault() -> None:
    assert [fault.code for fault in read("a" * 5000).faults] == ["data/unreadable"]


def test_rows_without_any_file_are_a_fault() -> None:
    assert [fault.code for fault in read([]).faults] == ["data/no-rows"]


EXAMPLES = tuple(one({**USER, "content": str(number)}, ANSWER) for number in range(100))


def test_a_part_is_held_out_by_seed_and_content_alone() -> None:
    kept, held = split(EXAMPLES, 0.2, seed=1)
    assert len(held) == 20
    assert sorted([*kept, *held], key=EXAMPLES.index) == list(EXAMPLES)
    again = split(tuple(reversed(EXAMPLES)), 0.2, seed=1)[1]
    assert set(map(EXAMPLES.index, again)) == set(map(EXAMPLES.index, held))
    assert set(map(EXAMPLES.index, split(EXAMPLES, 0.2, seed=2)[1])) != set(map(EXAMPLES.index, held))


def test_equal_rows_fall_on_one_side() -> None:
    kept, held = split(EXAMPLES * 3, 0.1, seed=1)
    assert not {EXAMPLES.index(one) for one in kept} & {EXAMPLES.index(one) for one in held}


def test_a_large_group_of_equal_rows_does_not_carry_the_split_away() -> None:
    for seed in range(8):
        kept, held = split((*EXAMPLES, *[one({**USER, "content": "same"}, ANSWER)] * 900), 0.1, seed)
        assert (len(kept), len(held)) == (900, 100)
    kept, held = split(EXAMPLES[:1] * 30 + EXAMPLES[1:2] * 20, 0.1, seed=1)
    assert (len(kept), len(held)) == (30, 20), "the smaller group, where none is small enough"


def test_rows_on_both_sides_are_found_by_their_content() -> None:
    again = Example(EXAMPLES[3].messages, EXAMPLES[3].learn, file="test.jsonl", line=9)
    assert shared(EXAMPLES[:5], (again, *EXAMPLES[4:9])) == [again, EXAMPLES[4]]


def test_a_file_is_left_out_of_folders_and_globs_and_not_of_names(tmp_path: Path) -> None:
    for name in ("train", "test"):
        row = {"messages": [{**USER, "content": name}, ANSWER]}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    test = str(tmp_path / "test.jsonl")
    for where, n in ((str(tmp_path), 1), (str(tmp_path / "*.jsonl"), 1), (test, 1), ([str(tmp_path), test], 2)):
        assert len(read(where, without=test).examples) == n
    assert read(str(tmp_path), without=test).examples[0].messages[0]["content"] == "train"


PRETTY = json.dumps({"messages": [USER, ANSWER]}, indent=1)
BROKEN_INSIDE = '{"messages": [\n{"role": "user", "content": "a"},\n{"role": "assistant", "content": "b"}]}\n'
ROW = json.dumps({"messages": [USER, ANSWER]})


@pytest.mark.parametrize(
    ("name", "text", "code", "cure"),
    [
        ("o.json", PRETTY, "data/not-json-lines", "write the rows as one list, in [ ]"),
        ("o.jsonl", PRETTY, "data/not-json-lines", "write each row on one line"),
        ("o.jsonl", BROKEN_INSIDE, "data/not-json-lines", "write each row on one line"),
        ("o.jsonl", f"[{ROW},\n{ROW}]", "data/not-json-lines", "rename it to .json"),
        ("o.jsonl", f'{{"messages": [\n{ROW}\n', "data/not-json", "mend this line"),
        ("o.parquet.gz", "x", "data/unknown-file", "gunzip -k o.parquet.gz"),
    ],
)
def test_json_that_is_laid_out_otherwise_has_its_cure(
    tmp_path: Path, name: str, text: str, code: str, cure: str
) -> None:
    (fault,) = written(tmp_path, text, name).faults
    assert (fault.code, cure in fault.fix) == (code, True), fault.fix


@pytest.mark.parametrize(
    ("row", "cure"),
    [
        ({"mesages": [USER, ANSWER]}, "did you mean 'messages' by 'mesages'?"),
        ({"data": [{"messages": [USER, ANSWER]}]}, "the rows stand inside 'data'"),
        ({"a": 1}, 'write {"messages": [...]}'),
    ],
)
def test_a_file_of_no_known_format_has_its_cure(tmp_path: Path, row: dict[str, Any], cure: str) -> None:
    (fault,) = written(tmp_path, json.dumps(row)).faults
    assert fault.code == "data/unknown-format"
    assert cure in fault.fix


def test_too_few_rows_cannot_be_split() -> None:
    from tunesmith.errors import DataError

    for few in ((), EXAMPLES[:1], EXAMPLES[:1] * 5):
        with pytest.raises(DataError, match="data/too-few-to-split"):
            split(few, 0.5, seed=1)
