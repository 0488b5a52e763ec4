"""Data sets of the Hub, from a hub of the tests' own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sources.hub_server import Hub, serving
from tunesmith.formats._reading import read
from tunesmith.text import row_hub

README = """---
license: mit
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: [data/test-*.jsonl]
- config_name: short
  data_files: short/*.csv
---
# About
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    files = {
        "told/README.md": README,
        "told/data/train-0.jsonl": row("told train"),
        "told/data/train-1.jsonl": row("told more"),
        "told/data/test-0.jsonl": row("told test"),
        "told/short/rows.csv": "prompt,completion\ntold short,a\n",
        "named/train.jsonl": row("named train"),
        "named/test.jsonl": row("named test"),
        "named/dataset_infos.json": "{}",
        "plain/en/rows.jsonl": row("plain en"),
        "plain/de/rows.jsonl": row("plain de"),
        "script/script.py": "",
    }
    for name, text in files.items():
        path = tmp_path / "hub" / "user" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serving(tmp_path / "hub") as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        yield served


def row(asked: str) -> str:
    return json.dumps({"prompt": asked, "completion": "a"}) + "\n"


def asked(word: str) -> list[str]:
    return [one.messages[0]["content"] for one in read(word).or_raise().examples]


@pytest.mark.parametrize(
    ("word", "rows"),
    [
        ("hf:user/told", ["told train", "told more"]),
        ("user/told", ["told train", "told more"]),
        ("hf:user/told:test", ["told test"]),
        ("hf:user/told@v1:default:test", ["told test"]),
        ("hf:user/told:short:train", ["told short"]),
        ("hf:user/named", ["named train"]),
        ("hf:user/named:test", ["named test"]),
        ("hf:user/plain:en:train", ["plain en"]),
        ("hf:user/plain", ["plain de", "plain en"]),
    ],
)
def test_a_split_of_the_hub_is_read(hub: Hub, word: str, rows: list[str]) -> None:
    assert asked(word) == rows


def test_the_files_of_other_splits_are_not_fetched(hub: Hub) -> None:
    asked("hf:user/told:test")
    assert not [one for one in hub.asked if "train-" in one]


@pytest.mark.parametrize(
    ("word", "code", "told"),
    [
        ("hf:user/nobody", "data/no-such-hub-data", "hf auth login"),
        ("user/nobody", "data/no-such-hub-data", "hf auth login"),
        ("hf:user/told@v9", "data/no-such-revision", "leave @revision out"),
        ("hf:user/told:dev", "data/no-such-split", "hf:user/told:test"),
        ("hf:user/told:long:train", "data/no-such-config", "hf:user/told:CONFIG:train"),
        ("hf:user/plain:fr:train", "data/no-such-config", "hf:user/plain:CONFIG:train"),
        ("hf:user/script", "data/no-hub-files", "@refs/convert/parquet"),
        ("hf:a b", "data/bad-hub-name", "hf:user/name:split"),
        ("hf:user/-told", "data/bad-hub-name", "hf:user/name:split"),
        ("user/told/more", "data/no-such-file", "check the path"),
        ("user/told.jsonl", "data/no-such-file", "check the path"),
    ],
)
def test_each_refusal_has_its_own_words(hub: Hub, word: str, code: str, told: str) -> None:
    (fault,) = read(word).faults
    assert (fault.code, told in fault.fix) == (code, True), fault


def test_the_hub_s_own_refusals_are_told(hub: Hub) -> None:
    for code, ours in (("GatedRepo", "data/gated"), ("OutOfOrder", "data/hub-failed")):
        hub.refusals["user/named"] = code
        assert [fault.code for fault in read("hf:user/named").faults] == [ours]


def test_a_path_that_exists_is_never_a_name_of_the_hub(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "user" / "told").mkdir(parents=True)
    (tmp_path / "user" / "told" / "rows.jsonl").write_text(row("here"))
    assert asked("user/told") == ["here"]
    assert [fault.code for fault in read("user/tolt").faults] == ["data/no-such-file"]


def test_what_was_fetched_once_is_there_without_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    asked("hf:user/told:test")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert asked("hf:user/told:test") == ["told test"]
    assert [fault.code for fault in read("hf:user/told").faults] == ["data/no-such-split"]


def test_a_hub_out_of_reach_is_a_fault_with_a_way_out(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (fault,) = read("hf:user/told").faults
    assert (fault.code, "HF_ENDPOINT" in fault.fix) == ("data/hub-unreachable", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (fault,) = read("hf:user/told").faults
    assert (fault.code, fault.fix) == ("data/hub-unreachable", "unset HF_HUB_OFFLINE")


def test_words_are_taken_apart() -> None:
    assert row_hub.may_be_one("user/name")
    assert row_hub.may_be_one("user/name@v1:test")
    for word in ("name", "a/b/c", "user/rows.csv", "a b/c"):
        assert not row_hub.may_be_one(word)
