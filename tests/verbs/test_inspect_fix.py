"""The mended copy: what is safe to mend is mended, the rest stands apart, and nothing is written over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tiny.models import save
from tunesmith.errors import RecipeError
from tunesmith.verbs.inspect import inspect

Row = dict[str, Any]


def turn(role: str, content: Any, **more: Any) -> Row:
    return {"role": role, "content": content, **more}


def chat(*turns: Row, **more: Any) -> Row:
    return {"messages": list(turns), **more}


U, A = turn("user", "hi"), turn("assistant", "ho")
CALL = {"id": "x1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
OLD_CALL = {"name": "f", "arguments": '{"a": 1}'}
FUNCTION = {"name": "f", "parameters": {}}


def fixed(folder: Path, *rows: Row | str, **asked: Any) -> tuple[list[Row], list[str], Any]:
    """The rows of the copy, the lines of what was put apart, and the inspection."""
    data, out = folder / "rows.jsonl", folder / "out.jsonl"
    lines = [one if isinstance(one, str) else json.dumps(one) for one in rows]
    data.write_text("".join(f"{line}\n" for line in lines))
    found = inspect(str(data), fix=str(out), **asked)
    rejected = folder / "out.rejected.jsonl"
    made = [json.loads(line) for line in out.read_text().splitlines()]
    return made, rejected.read_text().splitlines() if rejected.exists() else [], found


MENDED = {
    "roles of other programs": (chat(turn("human", "hi"), turn("gpt", "ho")), chat(U, A)),
    "a role in capitals": (chat(turn("User", "hi"), turn("ASSISTANT ", "ho")), chat(U, A)),
    "a misspelt role": (chat(U, turn("asistant", "ho")), chat(U, A)),
    "a misspelt key of the row": ({"mesages": [U, A]}, chat(U, A)),
    "a misspelt key of a turn": (chat(U, {"role": "assistant", "contnt": "ho"}), chat(U, A)),
    "a weight that is true": (
        chat(U, turn("assistant", "ho", weight=True)),
        chat(U, turn("assistant", "ho", weight=1)),
    ),
    "a weight on a user": (chat(turn("user", "hi", weight=1), A), chat(U, A)),
    "an empty system message": (chat(turn("system", " "), U, A), chat(U, A)),
    "empty turns at the end": (chat(U, A, turn("user", ""), turn("assistant", None)), chat(U, A)),
    "from and value": (chat({"from": "human", "value": "hi"}, A), chat(U, A)),
    "conversations with a misspelt role": (
        {"conversations": [{"from": "humann", "value": "hi"}, {"from": "gpt", "value": "ho"}]},
        chat(U, A),
    ),
    "a number as content": (chat(U, turn("assistant", 5)), chat(U, turn("assistant", "5"))),
    "messages as a text": ({"messages": json.dumps([U, A])}, chat(U, A)),
    "a tool's answer without its id": (
        chat(U, turn("assistant", None, tool_calls=[CALL]), turn("tool", "sun"), A),
        chat(U, turn("assistant", None, tool_calls=[CALL]), turn("tool", "sun", tool_call_id="x1"), A),
    ),
    "the old way to call": (
        chat(
            U,
            turn("assistant", None, function_call=OLD_CALL),
            turn("function", "sun", name="f"),
            A,
            functions=[FUNCTION],
        ),
        chat(
            U,
            turn("assistant", None, tool_calls=[{"id": "call00001", "type": "function", "function": OLD_CALL}]),
            turn("tool", "sun", name="f", tool_call_id="call00001"),
            A,
            tools=[{"type": "function", "function": FUNCTION}],
        ),
    ),
}


@pytest.mark.parametrize("name", MENDED)
def test_it_is_mended_and_the_copy_has_no_fault(tmp_path: Path, name: str) -> None:
    before, after = MENDED[name]
    good = chat(turn("user", "another"), A)
    rows, rejected, found = fixed(tmp_path, good, before)
    assert rows == [good, after]
    assert rejected == []
    assert found.ok
    assert found.n_faults
    assert found.fixed.done
    assert not inspect(str(tmp_path / "out.jsonl")).n_faults


NOT_SAFE: dict[str, Row | str] = {
    "no answer": chat(U),
    "an empty answer in the middle": chat(U, turn("assistant", ""), U, A),
    "only an empty answer": chat(U, turn("assistant", "")),
    "an answer at a key that nobody knows": chat(U, A, U, {"role": "assistant", "said": "ho"}),
    "half a weight": chat(U, turn("assistant", "ho", weight=0.5)),
    "a role that nobody knows": chat(U, turn("narrator", "ho"), A),
    "an answer of a function that was not called": chat(U, turn("function", "sun", name="f"), A),
    "two calls and an answer without id": chat(
        U, turn("assistant", None, tool_calls=[CALL, {**CALL, "id": "x2"}]), turn("tool", "sun"), A
    ),
    "no JSON": "{not json",
    "half a character": '{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "a"}]}',
    "a key twice": '{"messages": [], "messages": []}',
    "a list": "[1, 2]",
}


@pytest.mark.parametrize("name", NOT_SAFE)
def test_what_takes_a_guess_is_put_apart_as_it_stands(tmp_path: Path, name: str) -> None:
    row = NOT_SAFE[name]
    rows, rejected, found = fixed(tmp_path, chat(U, A), row)
    assert rows == [chat(U, A)]
    assert rejected == [row if isinstance(row, str) else json.dumps(row)]
    assert not found.ok
    assert found.as_json()["fixed"]["rejected"] == {"file": str(tmp_path / "out.rejected.jsonl"), "rows": 1}


def test_rows_that_are_good_stand_as_they_were_with_all_their_keys(tmp_path: Path) -> None:
    row = chat(U, {**A, "id": 7}, source="web", score=0.5)
    rows, _, _ = fixed(tmp_path, row)
    assert rows == [row]


def test_equal_rows_are_written_once_also_where_one_is_equal_only_when_mended(tmp_path: Path) -> None:
    rows, _, found = fixed(tmp_path, chat(turn("human", "hi"), A), chat(U, A), chat(U, A))
    assert rows == [chat(U, A)]
    assert found.fixed.done["equal rows left out"] == 2


def test_a_mark_at_the_beginning_and_carriage_returns_are_gone(tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"
    data.write_bytes(b"\xef\xbb\xbf" + json.dumps(chat(U, A)).encode() + b"\r\n{broken\r\n")
    found = inspect(str(data), fix=str(tmp_path / "b.jsonl"))
    assert (tmp_path / "b.jsonl").read_bytes() == json.dumps(chat(U, A)).encode() + b"\n"
    assert (tmp_path / "b.rejected.jsonl").read_bytes() == b"{broken\n"
    assert sorted(found.fixed.done) == [  # type: ignore[union-attr]
        "a byte order mark left out, in a file",
        "lines ended by a line feed alone, in a file",
    ]


def test_a_file_in_which_no_row_can_be_read_is_mended_all_the_same(tmp_path: Path) -> None:
    rows, _, _ = fixed(tmp_path, {"mesages": [U, A]}, {"message": [turn("human", "you"), A]})
    assert rows == [chat(U, A), chat(turn("user", "you"), A)]


OTHERS: dict[str, tuple[Row, Row]] = {
    "sharegpt": ({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}, chat(U, A)),
    "alpaca": ({"instruction": "hi", "input": "", "output": "ho"}, chat(U, A)),
    "completion": ({"prompt": "hi", "completion": "ho"}, chat(U, A)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_rows_of_other_formats_are_written_as_messages(tmp_path: Path, name: str) -> None:
    before, after = OTHERS[name]
    rows, rejected, found = fixed(tmp_path, before)
    assert (rows, rejected) == ([after], [])
    assert found.fixed.done == {f"{name} written as messages": 1}
    assert not inspect(str(tmp_path / "out.jsonl")).n_faults


@pytest.mark.parametrize("name", OTHERS)
def test_a_row_of_another_format_among_messages_is_written_as_one_of_them(tmp_path: Path, name: str) -> None:
    before, after = OTHERS[name]
    good = chat(turn("user", "another"), A)
    rows, _, found = fixed(tmp_path, good, before)
    assert rows == [good, after]
    assert found.n_faults
    assert found.ok


def test_a_table_is_written_as_messages(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('prompt,completion\nhi,ho\n"a\nb",c\n,empty\n')
    found = inspect(str(tmp_path / "a.csv"), fix=str(tmp_path / "b.jsonl"))
    made = [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()]
    assert made == [chat(U, A), chat(turn("user", "a\nb"), turn("assistant", "c"))]
    assert found.as_json()["fixed"]["rejected"]["rows"] == 1


def test_texts_stay_texts(tmp_path: Path) -> None:
    rows, rejected, _ = fixed(tmp_path, {"text": "a tale"}, {"text": ""}, {"text": "a tale"})
    assert rows == [{"text": "a tale"}]
    assert rejected == ['{"text": ""}']


def test_rows_that_the_model_cannot_learn_are_put_apart_too(tmp_path: Path) -> None:
    model = str(save(tmp_path / "model"))
    long = chat(U, turn("assistant", "ho " * 100))
    rows, rejected, _ = fixed(tmp_path, chat(U, A), long, model=model, max_length=60)
    assert rows == [chat(U, A)]
    assert rejected == [json.dumps(long)]
    assert inspect(str(tmp_path / "out.jsonl"), model=model, max_length=60).ok


@pytest.mark.parametrize("name", ["out.jsonl", "out.rejected.jsonl"])
def test_nothing_is_written_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(RecipeError, match="inspect/exists"):
        fixed(tmp_path, chat(U, A))
    assert (tmp_path / name).read_text() == "mine"
