"""docs/speed.md shows what benchmarks/export.py measured."""

from __future__ import annotations

import importlib
import json

import pytest

from needs import ROOT


def test_the_page_shows_what_the_results_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = importlib.import_module("export")
    tree = json.loads(benchmark.RESULTS.read_text(encoding="utf-8"))
    made = benchmark.table(tree)
    assert made in benchmark.PAGE.read_text(encoding="utf-8")
    assert list(tree["first"]["stages"]) == ["export gguf", "export ollama", "export web"]
    assert len(tree["later"]) >= 3
    assert tree["files_compared"] >= 4, "two GGUFs, a graph and its weights"
