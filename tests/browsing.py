"""A real browser, and the web export's page in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import needs
from tunesmith.artifact import Export

FLAGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NO_GPU = ["--disable-gpu"]
SOFTWARE_GPU = [  # WebGPU computed by the processor
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
    "--use-vulkan=swiftshader",
    "--ignore-gpu-blocklist",
]
LOAD_MS = 300_000
SIZE: Mapping[str, int] = {"width": 900, "height": 760}


@contextmanager
def chromium(gpu: Sequence[str] = NO_GPU) -> Iterator[Any]:
    """The system's Chromium, without a GPU or with what `gpu` says; skips where it or playwright is missing."""
    path = needs.need_chromium()
    api = pytest.importorskip("playwright.sync_api", reason='playwright is missing; to get it, pip install -e ".[dev]"')
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=str(path), args=[*FLAGS, *gpu])
        yield running
        running.close()


class Page:
    """A page that is open, and all that it asked for."""

    def __init__(self, browser: Any, url: str, size: Mapping[str, int] = SIZE, scale: float = 1.0) -> None:
        self.url = url
        self.tab = browser.new_page(viewport=dict(size), device_scale_factor=scale)
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.on("pageerror", lambda error: self.faults.append(str(error)))
        self.tab.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)

    def load(self, query: str = "") -> None:
        self.tab.goto(self.url + query)
        self.tab.wait_for_selector("body[data-ready]", timeout=LOAD_MS)

    def ask(self, text: str) -> str:
        self.tab.fill("#text", text)
        self.tab.keyboard.press("Enter")
        self.tab.wait_for_selector(".turn.model:last-child:not(.writing)", timeout=LOAD_MS)
        return str(self.tab.locator(".turn.model .words").last.inner_text())

    def outside(self) -> list[str]:
        own = (self.url, f"blob:{self.url[:-1]}", "data:")
        return [url for url in self.asked if not url.startswith(own)]


def pretending(export: Export, into: Path, script: str) -> Path:
    """A copy of the page in whose worker a script runs before all else: a browser that is not at hand."""
    shutil.copytree(export.folder, into)
    (into / "pretend.js").write_text(script)
    worker = into / "worker.js"
    worker.write_text('import "./pretend.js";\n' + worker.read_text())
    return into
