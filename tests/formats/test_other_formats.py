"""ShareGPT, Alpaca and pairs become the conversations that the same rows in OpenAI's format are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith import rooms
from tunesmith.formats._reading import Stream, read
from tunesmith.text.example import Example

TEA, TWO = {"role": "user", "content": "tea"}, {"role": "assistant", "content": "two"}
BRIEF = {"role": "system", "content": "be brief"}


def one(kind: str, row: dict[str, Any]) -> Example:
    result = rooms.find("formats", kind)().read(row, "f", 1)
    assert isinstance(result, Example), result
    return result


@pytest.mark.parametrize("key", ["conversations", "conversation"])
def test_a_sharegpt_row_is_a_conversation(key: str) -> None:
    turns = [{"from": "human", "value": "tea"}, {"from": "gpt", "value": "two"}]
    example = one("sharegpt", {key: turns, "system": "be brief", "id": 3})
    assert example.messages == (BRIEF, TEA, TWO)
    assert example.learn == (False, False, True)


def test_sharegpt_rows_may_use_openai_s_words() -> None:
    assert one("sharegpt", {"conversations": [TEA, {**TWO, "weight": 1}]}).messages == (TEA, TWO)


def test_sharegpt_s_calls_become_tool_calls_that_their_answers_name() -> None:
    call = json.dumps({"name": "add", "arguments": {"a": 1}})
    said = [("human", "tea"), ("function_call", call), ("observation", "3"), ("gpt", "two")]
    tools = json.dumps([{"name": "add", "parameters": {}}])
    row = {"conversations": [{"from": who, "value": what} for who, what in said], "tools": tools}
    example = one("sharegpt", row)
    (made,) = example.messages[1]["tool_calls"]
    assert made["function"] == {"name": "add", "arguments": {"a": 1}}
    assert len(made["id"]) == 9
    assert example.messages[2] == {"role": "tool", "content": "3", "tool_call_id": made["id"]}
    assert example.tools == ({"type": "function", "function": {"name": "add", "parameters": {}}},)
    assert example.learn == (False, True, False, True)


def test_an_answer_that_opens_a_sharegpt_row_is_read_and_not_learnt() -> None:
    turns = [("gpt", "hello"), ("human", "tea"), ("gpt", "two")]
    example = one("sharegpt", {"conversations": [{"from": who, "value": what} for who, what in turns]})
    assert example.learn == (False, False, True)


def test_a_tool_s_answer_in_sharegpt_may_name_no_call() -> None:
    turns = [("human", "tea"), ("gpt", "<call>"), ("tool", "3"), ("gpt", "two")]
    example = one("sharegpt", {"conversations": [{"from": who, "value": what} for who, what in turns]})
    assert example.messages[2] == {"role": "tool", "content": "3"}


def test_an_alpaca_row_has_its_input_below_the_instruction() -> None:
    row = {"instruction": "count", "input": "tea, tea", "output": "two", "system": "be brief"}
    asked = {"role": "user", "content": "count\n\ntea, tea"}
    example = one("alpaca", row)
    assert example.messages == (BRIEF, asked, TWO)
    assert example.learn == (False, False, True)
    assert one("alpaca", {"instruction": "tea", "input": "", "output": "two"}).messages == (TEA, TWO)
    assert one("alpaca", {"instruction": "count", "context": "tea, tea", "response": "two"}).messages == (asked, TWO)


def test_alpaca_s_history_stands_before_the_order() -> None:
    row = {"instruction": "tea", "output": "two", "history": [["hi", "hello"]]}
    said = [(turn["role"], turn["content"]) for turn in one("alpaca", row).messages]
    assert said == [("user", "hi"), ("assistant", "hello"), ("user", "tea"), ("assistant", "two")]
    assert one("alpaca", row).learn == (False, True, False, True)


PAIRS = [("prompt", "completion"), ("question", "answer"), ("query", "response"), ("input", "output")]


@pytest.mark.parametrize(("prompt", "completion"), PAIRS)
def test_of_a_pair_the_completion_is_learnt(prompt: str, completion: str) -> None:
    example = one("completion", {prompt: "tea", completion: "two", "system": "be brief"})
    assert example.messages == (BRIEF, TEA, TWO)
    assert example.learn == (False, False, True)


def test_a_pair_of_turns_learns_those_of_the_completion_alone() -> None:
    example = one("completion", {"prompt": [TEA, TWO, TEA], "completion": [TWO]})
    assert example.messages == (TEA, TWO, TEA, TWO)
    assert example.learn == (False, False, False, True)


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("messages", {"messages": [TEA, TWO], "prompt": "a", "completion": "b", "text": "c"}),
        ("sharegpt", {"conversations": [TEA, TWO], "instruction": "a", "output": "b"}),
        ("alpaca", {"instruction": "tea", "input": "", "output": "two", "text": "c"}),
        ("completion", {"input": "tea", "output": "two", "text": "c"}),
        ("text", {"text": "tea", "meta": 1, "prompt": "a"}),
    ],
)
def test_a_row_goes_to_the_strictest_format_that_claims_it(tmp_path: Path, kind: str, row: dict[str, Any]) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    reading = read(str(tmp_path / "rows.jsonl"))
    assert (reading.format, reading.faults) == (kind, ())


def test_each_name_has_its_own_format(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "tea", "completion": "two"}))
    (tmp_path / "b.jsonl").write_text(json.dumps({"messages": [TEA, TWO]}))
    names = [str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl"), str(tmp_path)]
    stream = Stream(names)
    taken = list(stream)
    assert [(one.source, one.example.messages) for one in taken if one.example] == [(0, (TEA, TWO)), (1, (TEA, TWO))]
    assert (stream.format, stream.n_rows) == ("completion, messages", 2)
    forced = list(Stream(names[:2], ["completion", "text"]))
    assert [[fault.code for fault in one.faults] for one in forced] == [[], ["data/no-text"]]


# What OpenAI's cookbook checks in chat fine-tuning data, by the name that it gives each, and what is said here.
OPENAI: dict[str, tuple[Any, str, str]] = {
    "data_type": (["a"], "data/not-an-object", ""),
    "missing_messages_list": ({"messages": []}, "data/no-messages", "messages"),
    "message_missing_key": ({"messages": [{"content": "a"}, TWO]}, "data/no-role", "messages[0].role"),
    "message_unrecognized_key": (
        {"messages": [TEA, {**TWO, "wieght": 0}]},
        "data/unknown-key",
        "messages[1].wieght",
    ),
    "unrecognized_role": (
        {"messages": [{"role": "boss", "content": "a"}, TWO]},
        "data/unknown-role",
        "messages[0].role",
    ),
    "missing_content": ({"messages": [TEA, {"role": "assistant"}]}, "data/empty-content", "messages[1].content"),
    "example_missing_assistant_message": ({"messages": [TEA]}, "data/no-assistant", "messages"),
}


@pytest.mark.parametrize("check", OPENAI)
def test_what_openai_checks_is_a_fault_here(tmp_path: Path, check: str) -> None:
    row, code, key = OPENAI[check]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": [TEA, TWO]}) + "\n" + json.dumps(row))
    (fault,) = read(str(tmp_path / "rows.jsonl")).faults
    assert (fault.code, fault.line, fault.key) == (code, 2, key)


def test_openai_s_limit_of_tokens_is_the_model_s_own_here() -> None:
    from tiny.models import tokenizer
    from tunesmith.errors import DataError
    from tunesmith.objectives.sft import Sft
    from tunesmith.text.template import Text

    words = tokenizer()
    example = one("messages", {"messages": [TEA, {**TWO, "content": "two " * 50}]})
    with pytest.raises(DataError) as raised:
        Sft().weigh(example, Text(words, frozenset([words.eos_token_id])), 20)
    assert [fault.code for fault in raised.value.faults] == ["data/too-long"]
