from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from formats.test_files import PACKERS, WRITERS
from tunesmith import rooms, say
from tunesmith.errors import TunesmithError
from tunesmith.formats._reading import read
from tunesmith.text import row
from tunesmith.text.example import Example

# fmt: off
WORDS = st.sampled_from(
    [
        "messages", "role", "content", "user", "assistant", "tool", "system", "tool_calls", "function",
        "name", "arguments", "weight", "type", "text", "tools", "tool_call_id", "id", "{}", "contnt",
        "conversations", "from", "value", "human", "gpt", "function_call", "observation", "instruction", "input",
        "output", "history", "prompt", "completion", "question", "answer", "chosen", "rejected", "label",
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


KINDS = [f"{kind}{packed}" for kind in (*row.TABLES, *row.TEXTS) for packed in ("", *row.PACKED)]
CELLS = st.lists(st.lists(WORDS | st.text(max_size=5), max_size=4), max_size=5)
MEMBERS = [rooms.find("formats", name) for name in rooms.names("formats")]


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
@given(st.binary(max_size=200), st.sampled_from(KINDS))
def test_no_bytes_break_the_readers(content: bytes, kind: str) -> None:
    read_bytes(content, kind)


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES | st.builds(lambda m: {"messages": m}, MESSAGES), max_size=3), st.booleans())
def test_no_json_breaks_the_readers(rows: list[Any], as_list: bool) -> None:
    text = json.dumps(rows) if as_list else "\n".join(json.dumps(row) for row in rows)
    read_bytes(text.encode(), ".json" if as_list else ".jsonl")


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(WORDS, VALUES, max_size=3), MESSAGES)
def test_a_row_is_an_example_or_has_faults(value: dict[str, Any], messages: list[Any]) -> None:
    for member in MEMBERS:
        for one in (value, {**value, "messages": messages}, {**value, "conversations": messages}):
            member.claims(one)
            result = member().read(one, "f", 1)
            assert isinstance(result, Example) or result


@settings(max_examples=60, deadline=None)
@given(CELLS, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from([",", ";", "\t"]), st.booleans())
def test_no_cells_break_the_readers(cells: list[list[str]], end: str, mark: str, has_header: bool) -> None:
    lines = [mark.join(line) for line in ([["prompt", "completion"], *cells] if has_header else cells)]
    content = end.join(lines).encode("utf-8", "surrogatepass")
    for kind in row.CELLS:
        read_bytes(content, kind)


ROWS = st.lists(st.fixed_dictionaries({"prompt": st.text(), "completion": st.text()}), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(ROWS, st.sampled_from([(k, p) for k in WRITERS for p in PACKERS]), st.floats(0, 1), st.binary(max_size=3))
def test_no_file_that_was_cut_or_changed_breaks_the_readers(
    some: list[dict[str, str]], kind: tuple[str, str], share: float, put: bytes
) -> None:
    content = PACKERS[kind[1]](WRITERS[kind[0]](some))
    at = int(len(content) * share)
    read_bytes(content[:at], "".join(kind))
    read_bytes(content[:at] + put + content[at + len(put) :], "".join(kind))


WORDY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.fixed_dictionaries({"prompt": WORDY, "completion": WORDY}), min_size=1, max_size=4))
def test_what_any_writer_wrote_comes_back(some: list[dict[str, str]]) -> None:
    before = say.hear(say.Silent())
    try:
        with tempfile.TemporaryDirectory() as folder:
            for kind, write in WRITERS.items():
                path = Path(folder) / f"rows{kind}"
                path.write_bytes(write(some))
                examples = read(str(path)).or_raise().examples
                assert [[turn["content"] for turn in one.messages] for one in examples] == [
                    [one["prompt"], one["completion"]] for one in some
                ], kind
    finally:
        say.hear(before)
