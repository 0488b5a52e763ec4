"""docs/compared.md is what benchmarks/methods.py makes of its results."""

from __future__ import annotations

import importlib
import json

import pytest

from needs import ROOT
from tunesmith import rooms


def test_the_page_shows_what_the_results_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = importlib.import_module("methods")
    tree = json.loads(benchmark.RESULTS.read_text(encoding="utf-8"))
    assert benchmark.page(tree) == benchmark.PAGE.read_text(encoding="utf-8")
    assert {row["method"]["kind"] for row in tree["rows"].values()} == set(rooms.ROOMS["methods"]), (
        "each method has a row"
    )
    assert len({row["steps"] for row in tree["rows"].values()}) == 1, "one budget for all"
