"""Each kind of file gives the rows that were written into it, whole or packed, and its faults have their place."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith import say
from tunesmith.formats._reading import Stream, read
from tunesmith.text import row, row_bytes, row_json, rows

USER, ANSWER = {"role": "user", "content": "ask"}, {"role": "assistant", "content": "answer"}
PAIRS = [{"prompt": f"ask {number}", "completion": f'say "{number}",\nthen stop'} for number in range(600)]
CHATS = [{"messages": [USER, {**ANSWER, "content": f"answer {number}"}]} for number in range(600)]


def as_lines(some: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(one) + "\n" for one in some).encode()


def as_list(some: list[dict[str, Any]]) -> bytes:
    return json.dumps(some, indent=1, ensure_ascii=False).encode()


def as_cells(some: list[dict[str, Any]], delimiter: str = ",", end: str = "\r\n") -> bytes:
    out = io.StringIO()
    table = csv.writer(out, delimiter=delimiter, lineterminator=end)
    table.writerow(some[0])
    for one in some:
        table.writerow(
            [value if isinstance(value, str) else json.dumps(value) for value in (one[key] for key in some[0])]
        )
    return out.getvalue().encode()


def as_parquet(some: list[dict[str, Any]]) -> bytes:
    import pyarrow as arrow
    from pyarrow import parquet

    out = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(some), out, row_group_size=250)
    return out.getvalue()


def as_arrow(some: list[dict[str, Any]]) -> bytes:
    import pyarrow as arrow

    out, table = io.BytesIO(), arrow.Table.from_pylist(some)
    with arrow.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


def zstd(content: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.compress(content)


WRITERS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    ".jsonl": as_lines,
    ".ndjson": lambda some: b"\xef\xbb\xbf" + as_lines(some).replace(b"\n", b"\r\n"),
    ".json": as_list,
    ".csv": as_cells,
    ".tsv": lambda some: as_cells(some, "\t"),  # where lines end with \n, csv writes a \r in a cell without quotes
    ".parquet": as_parquet,
    ".arrow": as_arrow,
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd}
KINDS = [(kind, packed) for kind in WRITERS for packed in PACKERS if not (packed and kind in row.COLUMNS)]


def written(folder: Path, name: str, content: bytes) -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return str(folder / name)


def said(name: str, **options: Any) -> list[tuple[str, ...]]:
    reading = read(name, **options).or_raise()
    return [tuple(turn["content"] for turn in one.messages) for one in reading.examples]


def codes(name: str) -> list[tuple[str, int | None]]:
    return [(fault.code, fault.line) for fault in read(name).faults]


@pytest.mark.parametrize(("kind", "packed"), KINDS)
def test_rows_come_back_as_they_were_written(tmp_path: Path, kind: str, packed: str) -> None:
    content = PACKERS[packed](WRITERS[kind](PAIRS))
    assert said(written(tmp_path, f"pairs{kind}{packed}", content)) == [tuple(one.values()) for one in PAIRS]
    content = PACKERS[packed](WRITERS[kind](CHATS))
    chats = [("ask", f"answer {number}") for number in range(600)]
    assert said(written(tmp_path, f"chats{kind}{packed}", content)) == chats


def test_every_kind_that_is_named_is_tried() -> None:
    assert {kind for kind, _ in KINDS} == set(row.TABLES)
    assert {packed for _, packed in KINDS} == {"", *row.PACKED}


@pytest.mark.parametrize("packed", row.PACKED)
def test_a_packed_text_is_one_text(tmp_path: Path, packed: str) -> None:
    name = written(tmp_path, f"tale.txt{packed}", PACKERS[packed](b"A tale."))
    assert read(name).examples[0].text == "A tale."


@pytest.mark.parametrize(("kind", "packed"), [one for one in KINDS if one[1] or one[0] in row.COLUMNS])
def test_a_file_that_was_cut_off_gives_a_fault_and_the_rows_before_it(tmp_path: Path, kind: str, packed: str) -> None:
    whole = PACKERS[packed](WRITERS[kind](PAIRS))
    reading = read(written(tmp_path, f"pairs{kind}{packed}", whole[: len(whole) - 20]))
    assert reading.faults[-1].code == "data/damaged"
    assert len(reading.examples) < 600 or kind == ".arrow"


def test_the_place_of_a_bad_byte_in_a_packed_file_is_that_in_what_is_unpacked(tmp_path: Path) -> None:
    content = as_lines(CHATS[:3])
    bad = content.replace(b"answer 2", b"answer \xff")
    (fault,) = read(written(tmp_path, "chats.jsonl.gz", gzip.compress(bad))).faults
    assert (fault.code, fault.line) == ("data/not-utf8", 3)
    assert f"byte {bad.index(bytes([255]))} " in fault.what


def test_a_row_of_a_table_stands_where_it_begins(tmp_path: Path) -> None:
    name = written(tmp_path, "pairs.csv", as_cells(PAIRS[:3]) + b"a,\r\n")
    reading = read(name)
    assert [one.line for one in reading.examples] == [2, 4, 6]
    assert [(fault.line, fault.key) for fault in reading.faults] == [(8, "completion")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_are_read_however_they_end_their_cells_and_lines(tmp_path: Path, delimiter: str, end: str) -> None:
    content = b"\xef\xbb\xbf" + as_cells([{"prompt": "a", "completion": "b\u2028c"}] * 2, delimiter, end)
    assert said(written(tmp_path, "pairs.csv", content)) == [("a", "b\u2028c")] * 2


def test_an_index_without_a_name_is_a_column_that_is_passed_over(tmp_path: Path) -> None:
    assert said(written(tmp_path, "pairs.csv", b",prompt,completion\n0,a,b\n")) == [("a", "b")]


def test_nulls_that_a_table_of_columns_adds_are_left_out(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [USER, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "1", "content": "2"}]
    some = [{"messages": [*turns, ANSWER], "id": 1}, {"messages": [USER, ANSWER], "id": None}]
    lines = read(written(tmp_path, "a.jsonl", as_lines(some))).or_raise().examples
    columns = read(written(tmp_path, "b.parquet", as_parquet(some))).or_raise().examples
    assert [one.messages for one in columns] == [one.messages for one in lines]
    assert [one.line for one in columns] == [1, 2]


def test_what_is_too_long_is_told_with_its_size_and_reading_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (row_bytes, row_json, rows):
        monkeypatch.setattr(module, "MOST_BYTES", 200_000)
    some = [CHATS[0], {"messages": [USER, {**ANSWER, "content": '\\"]}{é' * 100_000}]}, CHATS[1]]
    for name, content, line in (
        ("a.jsonl", as_lines(some), 2),
        ("a.json", as_list(some), as_list(some[:1]).count(b"\n") + 1),
        ("b.json", json.dumps(some).encode(), 1),
    ):
        reading = read(written(tmp_path, name, content))
        assert len(reading.examples) == 2, name
        assert [(fault.code, fault.line) for fault in reading.faults] == [("data/line-too-long", line)]
        assert f"{len(json.dumps(some[1]).encode()) / 2**20:.0f}." in reading.faults[0].what or name == "a.json"
    assert codes(written(tmp_path, "a.txt", b"a" * 200_001)) == [("data/too-large-text", None)]
    assert codes(written(tmp_path, "a.csv", b"text\n" + b"a" * 200_001 + b"\n")) == [("data/line-too-long", 2)]


def test_a_long_list_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    import tracemalloc

    name = written(tmp_path, "a.json", json.dumps(CHATS * 20).encode())
    assert Path(name).stat().st_size > 1_000_000
    tracemalloc.start()
    try:
        assert sum(one.example is not None for one in Stream(name)) == 12_000
        assert tracemalloc.get_traced_memory()[1] < 800_000
    finally:
        tracemalloc.stop()


def test_keys_that_mean_nothing_are_named_with_their_number_in_each_format(tmp_path: Path) -> None:
    class Ear(say.Silent):
        def note(self, text: str) -> None:
            heard.append(text)

    heard: list[str] = []
    before = say.hear(Ear())
    try:
        read(written(tmp_path, "a.csv", as_cells([{**one, "id": "7"} for one in PAIRS])))
        turns = [{"from": "human", "value": "a", "model": "x"}, {"from": "gpt", "value": "b"}]
        read(written(tmp_path, "a.jsonl", as_lines([{"conversations": turns, "id": 7}] * 2)))
    finally:
        say.hear(before)
    told = [one for one in heard if "passed over" in one]
    assert "id (600)" in told[0]
    assert "id (2), conversations[].model (2)" in told[1]


def test_what_reads_a_kind_of_file_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pyarrow", "backports", "compression"):
        monkeypatch.setitem(sys.modules, name, None)
    assert codes(written(tmp_path, "a.parquet", b"x")) == [("data/no-pyarrow", None)]
    assert codes(written(tmp_path, "a.jsonl.zst", b"x")) == [("data/no-zstd", None)]
    assert "tunesmith[data]" in read(str(tmp_path / "a.parquet")).faults[0].fix


def test_a_folder_named_for_splits_gives_its_training_rows(tmp_path: Path) -> None:
    for split in ("train", "test", "validation"):
        for kind, content in ((".parquet", as_parquet), (".jsonl", as_lines)):
            some = [{"prompt": split, "completion": kind}]
            written(tmp_path / kind, f"data/{split}-00000-of-00001{kind}", content(some))
        written(tmp_path / "flat", f"my-{split}.csv", as_cells([{"prompt": split, "completion": "a"}]))
    written(tmp_path / "flat", "more.csv", as_cells([{"prompt": "more", "completion": "a"}]))
    written(tmp_path / ".parquet", "README.md", b"About these rows.")
    for kind in (".parquet", ".jsonl"):
        assert said(str(tmp_path / kind)) == [("train", kind)]
    assert [one[0] for one in said(str(tmp_path / "flat"))] == ["more", "train"]


def test_a_data_set_that_was_saved_to_disk_is_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="datasets is missing; to get it, pip install datasets")
    one = datasets.Dataset.from_list(PAIRS)
    one.save_to_disk(str(tmp_path / "one"), num_shards=3)
    datasets.DatasetDict({"train": one, "test": one.select(range(2))}).save_to_disk(str(tmp_path / "two"))
    assert said(str(tmp_path / "one")) == said(str(tmp_path / "two")) == [tuple(pair.values()) for pair in PAIRS]
    assert len(said(str(tmp_path / "two" / "test"))) == 2


def test_saved_splits_without_one_for_training_are_named(tmp_path: Path) -> None:
    for split in ("dev", "test"):
        (tmp_path / split).mkdir()
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["dev", "test"]}')
    (fault,) = read(str(tmp_path)).faults
    assert (fault.code, "dev, test" in fault.what) == ("data/no-such-split", True)
    (tmp_path / "dataset_dict.json").write_text("{")
    assert codes(str(tmp_path)) == [("data/unreadable", None)]
