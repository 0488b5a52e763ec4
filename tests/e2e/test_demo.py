"""The first command a person types, on the real model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from browsing import Page, chromium
from needs import OllamaServer, need_node, smollm2
from tunesmith.web.serve import serving


def tunesmith(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tunesmith", *words], cwd=cwd, capture_output=True, text=True, timeout=1500
    )


@pytest.mark.slow
def test_the_demo_goes_from_data_to_checked_exports_and_keeps_them(tmp_path: Path, ollama_server: OllamaServer) -> None:
    need_node()
    smollm2()
    done = tunesmith("demo", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    tree = json.loads(done.stdout)
    assert set(tree["exports"]) == {"gguf", "ollama", "web"}
    findings = tree["checks"]["findings"]
    assert tree["checks"]["ok"]
    assert {one["runtime"] for one in findings} == {"llama_cpp", "ollama", "onnxruntime", "transformers_js"}
    assert [one for one in findings if one["verdict"] != "yes"] == []
    rows = [json.loads(line) for line in _test_rows().read_text().splitlines()]
    wanted = {row["messages"][0]["content"]: row["messages"][-1]["content"] for row in rows}
    after = [one["after"] == wanted[one["prompt"]] for one in tree["samples"]]
    before = [one["before"] == wanted[one["prompt"]] for one in tree["samples"]]
    assert len(tree["samples"]) == 3
    assert sum(after) > sum(before) == 0
    again = json.loads(tunesmith("demo", "--json", cwd=tmp_path).stdout)
    assert {one["state"] for one in again["stages"]} == {"kept"}
    assert again["samples"] == tree["samples"]
    _its_page_answers(tmp_path / tree["exports"]["web"]["path"], tree["samples"][0]["prompt"])


def _its_page_answers(folder: Path, question: str) -> None:
    """With JSON, as it was taught: in Chromium the processor computes, with the q8 file."""
    with serving(folder) as url, chromium() as browser:
        page = Page(browser, url)
        page.load()
        assert set(json.loads(page.ask(question))) == {"items", "to_go"}
        assert (page.faults, page.outside()) == ([], [])


def _test_rows() -> Path:
    import tunesmith

    return Path(tunesmith.__file__).parent / "orders" / "test.jsonl"
