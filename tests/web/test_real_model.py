"""The real small model: what the default export is worth, in Node and in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import needs
from tunesmith.artifact import Export, Model
from tunesmith.exports.web import Web
from tunesmith.runtimes.onnxruntime import OnnxRuntime
from tunesmith.runtimes.torch import open_folder
from tunesmith.runtimes.transformers_js import TransformersJs
from tunesmith.text.template import Text
from tunesmith.web.serve import serving

pytestmark = pytest.mark.slow
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


@pytest.fixture(scope="module")
def model() -> Path:
    return needs.smollm2()


@pytest.fixture(scope="module")
def web(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    needs.need_node()
    into = tmp_path_factory.mktemp("web") / "out"
    into.mkdir()
    return Web(dtypes=("q4", "fp32")).write(Model.of(model), {}, into)


def test_the_default_is_small_and_near(web: Export) -> None:
    q4 = web.variants["q4"]
    assert q4.about["kl"] <= q4.about["limit"]
    assert q4.n_bytes < web.variants["fp32"].n_bytes / 3


def test_float32_gives_the_same_numbers_and_answer_everywhere(model: Path, web: Export) -> None:
    text = Text.read(model)
    prompt = text.prompt(FRANCE)
    with open_folder(model, text) as torch:
        wanted, reference = torch.logprobs(prompt, 10), torch.answer(FRANCE, 24)
    for runtime in (OnnxRuntime(), TransformersJs()):
        with runtime.open(web, "fp32", text) as opened:
            seen = opened.logprobs(prompt, 1000)
            assert max(abs(value - seen[token]) for token, value in wanted.items()) < 1e-3
            answer = opened.answer(FRANCE, 24)
        assert (answer.text, answer.stopped) == (reference.text, reference.stopped)


def test_it_knows_paris_in_a_browser(web: Export) -> None:
    api: Any = pytest.importorskip("playwright.sync_api", reason='playwright is missing; pip install -e ".[dev]"')
    path = str(needs.need_chromium())
    with serving(web.folder) as url, api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page()
        page.goto(url + "?limit=24")
        page.wait_for_selector("body[data-ready]", timeout=300_000)
        page.fill("#text", FRANCE[0]["content"])
        page.keyboard.press("Enter")
        page.wait_for_selector(".turn.model:not(.writing)", timeout=300_000)
        assert "Paris" in page.locator(".turn.model .words").inner_text()
        browser.close()
