"""Tables: what a person reads is what programs get, in any width."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from tunesmith.checks._contract import Finding
from tunesmith.cli import check, export, plan, words
from tunesmith.cli.out import Out, console, write_json


def painted(paint: Any) -> str:
    stream = io.StringIO()
    Out({}, paint).show(stream, as_json=False)
    return stream.getvalue()


def finding(check: str, variant: str, verdict: Any, measured: Any = None, why: str = "") -> Finding:
    return Finding(check, "gguf", variant, "llama_cpp", verdict, measured, 0.1, why)


FINDINGS = [
    finding("same_prompt", "f16", "yes", "8 of 8"),
    finding("same_probabilities", "f16", "yes", 0.00014321),
    finding("same_prompt", "q8_0", "no", "7 of 8", "at character 0: should be 'a'"),
    finding("same_probabilities", "q8_0", "cannot_tell", None, "no server; start one with: ollama serve"),
]


def test_the_parity_table_has_a_row_a_file_and_a_column_a_check() -> None:
    lines = painted(lambda to: check.paint(FINDINGS, to)).splitlines()
    assert lines[0].split("  ")[0] == "runtime"
    assert "same prompt" in lines[0]
    assert lines[1].split() == ["llama_cpp", "gguf", "f16", "yes", "8", "of", "8", "yes", "0.00014"]
    assert lines[2].split() == ["llama_cpp", "gguf", "q8_0", "no", "7", "of", "8", "cannot", "tell"]


def test_each_no_and_each_cannot_tell_is_said_in_words_once() -> None:
    text = painted(
        lambda to: check.paint([*FINDINGS, finding("stops", "f16", "cannot_tell", None, FINDINGS[3].why)], to)
    )
    assert "no: llama_cpp q8_0 same prompt: at character 0: should be 'a'" in text
    assert text.count("ollama serve") == 1
    assert "cannot tell: llama_cpp q8_0, llama_cpp f16: no server" in text


def test_the_plan_shows_sums_reasons_and_refusals() -> None:
    tree = {
        "steps": 1200,
        "tokens": 1_090_000,
        "seconds": 390.0,
        "memory_bytes": 1_250_000_000,
        "disk_bytes": 23_900_000,
        "values": [
            {"name": "seconds", "value": 390, "why": "measured"},
            {"name": "dtype", "value": "float32", "why": "so"},
        ],
        "refusals": [{"code": "plan/x", "what": "no way", "at": "r.yaml, line 3", "fix": "choose another"}],
        "delivers": {"gguf": {"kind": "exact", "how": "merged"}},
        "moves": {"layers 22-29": 28_320_768, "*.[01].*.v_proj.*": 221_184},
        "parameters": 134_515_008,
    }
    lines = [" ".join(line.split()) for line in painted(lambda to: plan.paint(tree, to)).splitlines()]
    assert {"steps 1,200", "tokens 1,090,000", "time 6.5 min measured", "memory 1.25 GB", "disk 23.9 MB"} <= set(lines)
    assert "dtype float32 so" in lines
    assert "reaches gguf exact merged" in lines
    at = lines.index("moves 28,541,952 21.2% of the base's 134,515,008 weights")
    assert lines[at + 1 : at + 3] == ["layers 22-29 28,320,768", "*.[01].*.v_proj.* 221,184"]
    assert lines[-3:] == ["refused[plan/x]: no way", "at r.yaml, line 3", "fix choose another"]


@pytest.mark.parametrize(
    ("n_moves", "said"), [(134_515_008, "100%"), (4_884_480, "3.63%"), (11_520, "0.00856%"), (163, "0.000121%")]
)
def test_the_share_that_moves_is_said_for_many_and_for_few(n_moves: int, said: str) -> None:
    first, *parts = plan.moves({"moves": {"some": n_moves}, "parameters": 134_515_008})
    assert first == ("moves", f"{n_moves:,}", f"{said} of the base's 134,515,008 weights")
    assert parts == [("  some", f"{n_moves:,}", "")]


def test_where_nothing_is_known_to_move_nothing_is_said_of_it() -> None:
    assert plan.moves({"moves": {}, "parameters": None}) == []


def test_exports_are_listed_a_variant_a_line() -> None:
    exports = {"gguf": {"path": "x", "variants": {"f16": {"path": "x/m.gguf", "bytes": 270_900_000, "label": "exact"}}}}
    text = painted(lambda to: export.paint(exports, to))
    assert text.splitlines()[1].split() == ["gguf", "f16", "270.9", "MB", "exact", "x/m.gguf"]


def test_lines_have_no_blanks_at_their_ends_in_a_file() -> None:
    lines = painted(lambda to: check.paint(FINDINGS, to)).splitlines()
    assert lines
    assert [line for line in lines if line != line.rstrip()] == []


def test_a_file_gets_wide_lines_and_columns_counts_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert console(io.StringIO()).width == 160
    monkeypatch.setenv("COLUMNS", "50")
    assert console(io.StringIO()).width == 50


def test_json_has_no_nan_and_paths_are_text() -> None:
    stream = io.StringIO()
    write_json({"a": float("nan"), "b": (float("inf"), Path("x")), "c": {1: True, "d": None}}, stream)
    assert stream.getvalue() == (
        '{\n  "a": null,\n  "b": [\n    null,\n    "x"\n  ],\n  "c": {\n    "1": true,\n    "d": null\n  }\n}\n'
    )


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.04, "0.0 s"), (9.96, "10.0 s"), (41, "41 s"), (390, "6.5 min"), (11_520, "3.2 h")]
)
def test_durations_read_well(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


@pytest.mark.parametrize(("n_bytes", "said"), [(115_800, "115.8 kB"), (538_100_000, "538.1 MB"), (1.2e9, "1.20 GB")])
def test_sizes_read_well(n_bytes: float, said: str) -> None:
    assert words.size(n_bytes) == said
