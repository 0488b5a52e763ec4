"""The page in a browser with WebGPU, which the processor computes: its kernels are the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browsing import LOAD_MS, SOFTWARE_GPU, Page, chromium, pretending
from tiny.learnt import ANSWERS
from tunesmith.artifact import Export
from tunesmith.web.serve import serving


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(SOFTWARE_GPU) as running:
        yield running


def facts_of(page: Page) -> list[str]:
    return list(page.tab.locator("#facts li").all_inner_texts()[:2])


@pytest.mark.parametrize("dtype", ["q4", pytest.param("q8", marks=pytest.mark.slow)])
def test_it_answers_on_a_gpu(browser: Any, learnt_web: Export, dtype: str) -> None:
    with serving(learnt_web.folder) as url:
        page = Page(browser, url)
        page.load(f"?device=webgpu&dtype={dtype}")
        assert facts_of(page) == ["WebGPU", dtype]
        assert page.ask("Say hello.") == ANSWERS["Say hello."]
        page.tab.close()


def test_a_gpu_that_is_made_of_software_is_left_alone(browser: Any, learnt_web: Export) -> None:
    with serving(learnt_web.folder) as url:
        page = Page(browser, url)
        page.load()
        assert facts_of(page) == ["WebAssembly", "q8"]
        page.tab.close()


def test_weights_that_the_gpu_cannot_compute_with_go_to_webassembly(browser: Any, learnt_web: Export) -> None:
    with serving(learnt_web.folder) as url:
        page = Page(browser, url)
        page.load("?device=webgpu&dtype=q4f16")  # this GPU has no half precision
        assert facts_of(page) == ["WebAssembly", "q4f16"]
        assert page.ask("Say hello.") == ANSWERS["Say hello."]
        page.tab.close()


def test_a_gpu_that_gives_no_device_is_replaced_by_the_processor(
    browser: Any, learnt_web: Export, tmp_path: Path
) -> None:
    fails = "GPUAdapter.prototype.requestDevice = () => Promise.reject(new Error('no device'));"
    with serving(pretending(learnt_web, tmp_path / "web", fails)) as url:
        page = Page(browser, url)
        page.load("?device=webgpu")
        assert facts_of(page) == ["WebAssembly", "q8"]
        assert "The GPU could not be used" in page.tab.locator("#fault").inner_text()
        assert page.ask("Say hello.") == ANSWERS["Say hello."]
        page.tab.close()


@pytest.mark.slow
def test_a_gpu_that_is_lost_is_replaced_by_the_processor(browser: Any, learnt_web: Export, tmp_path: Path) -> None:
    keeps = """const ask = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...how) { return (self.gpu = await ask.apply(this, how)); };"""
    with serving(pretending(learnt_web, tmp_path / "web", keeps)) as url:
        page = Page(browser, url)
        page.load("?device=webgpu")
        assert page.ask("Say hello.") == ANSWERS["Say hello."]
        page.tab.workers[0].evaluate("self.gpu.destroy()")
        page.tab.wait_for_selector("body[data-ready=wasm]", timeout=LOAD_MS)
        assert "The GPU was lost" in page.tab.locator("#fault").inner_text()
        assert page.ask("a red fox")
        assert page.tab.locator(".turn").count() == 4
        page.tab.close()
