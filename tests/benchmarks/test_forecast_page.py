"""docs/plan.md shows what benchmarks/forecast.py measured."""

from __future__ import annotations

import importlib
import json

import pytest

from needs import ROOT

ROW = {
    "steps": 26,
    "forecast_seconds": 66.0,
    "estimated_seconds": 30.0,
    "measured_seconds": 60.0,
    "forecast_memory_bytes": 4_000_000_000,
    "measured_memory_bytes": 3_000_000_000,
}


def test_a_row_says_how_far_the_forecast_was_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = importlib.import_module("forecast")
    made = benchmark.table({"machine": "m", "date": "d", "packages": {"torch": "2"}, "rows": {"snips-lora": ROW}})
    assert made.splitlines()[-1] == "| snips-lora | 26 | 1.1 | 1.0 | +10% | 0.5 | 4.0 GB | 3.0 GB |"


def test_the_page_shows_what_the_results_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = importlib.import_module("forecast")
    page = benchmark.PAGE.read_text(encoding="utf-8")
    assert page.count(benchmark.BEGIN) == page.count(benchmark.END) == 1
    tree = json.loads(benchmark.RESULTS.read_text(encoding="utf-8"))
    assert len(tree["rows"]) == len(benchmark.RECIPES)
    assert benchmark.table(tree) in page
