from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith import say
from tunesmith.errors import TunesmithError
from tunesmith.formats._reading import read
from tunesmith.formats.messages import Messages
from tunesmith.formats.text import PlainText
from tunesmith.text.example import Example

# fmt: off
WORDS = st.sampled_from(
    [
        "messages", "role", "content", "user", "assistant", "tool", "system", "tool_calls", "function",
        "name", "arguments", "weight", "type", "text", "tools", "tool_call_id", "id", "{}", "contnt",
        "conversations",
    ]
)
# fmt: on
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {}, optional={key: VALUES for key in ("role", "content", "tool_calls", "weight", "name", "tool_call_id")}
    )
    | VALUES,
    max_size=4,
)


def read_bytes(content: bytes, kind: str) -> None:
    before = say.hear(say.Silent())
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"rows{kind}"
            path.write_bytes(content)
            reading = read(str(path))
            assert reading.examples or reading.faults
    except TunesmithError:
        pass
    finally:
        say.hear(before)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([".jsonl", ".json", ".txt", ".md"]))
def test_no_bytes_break_the_readers(content: bytes, kind: str) -> None:
    read_bytes(content, kind)


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES | st.builds(lambda m: {"messages": m}, MESSAGES), max_size=3), st.booleans())
def test_no_json_breaks_the_readers(rows: list[Any], as_list: bool) -> None:
    text = json.dumps(rows) if as_list else "\n".join(json.dumps(row) for row in rows)
    read_bytes(text.encode(), ".json" if as_list else ".jsonl")


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(WORDS, VALUES, max_size=3), MESSAGES)
def test_a_row_is_an_example_or_has_faults(row: dict[str, Any], messages: list[Any]) -> None:
    for member in (Messages(), PlainText()):
        for one in (row, {**row, "messages": messages}):
            result = member.read(one, "f", 1)
            assert isinstance(result, Example) or result
