"""Takes docs/images/page.png: the page of a web export, in the system's Chromium, after a question was asked on it.

python tools/picture.py runs/NAME/exports/web "Why is the sky blue?" [MORE QUESTIONS]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
SIZE = {"width": 820, "height": 520}
WAIT_MS = 300_000


def take(folder: Path, questions: list[str], into: Path) -> None:
    """Asks the questions one after the other, and keeps what the page then looks like."""
    from playwright.sync_api import sync_playwright

    import needs
    from tunesmith.web.serve import serving

    with serving(folder) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(needs.need_chromium()), args=FLAGS)
        page = browser.new_page(viewport=SIZE, device_scale_factor=1.5)  # type: ignore[arg-type]
        page.goto(url)
        page.wait_for_selector("body[data-ready]", timeout=WAIT_MS)
        for question in questions:
            _ask(page, question)
        page.evaluate("document.activeElement.blur()")
        page.screenshot(path=str(into))
        browser.close()


def _ask(page: Any, question: str) -> None:
    page.fill("#text", question)
    page.keyboard.press("Enter")
    page.wait_for_selector(".turn.model:last-child:not(.writing)", timeout=WAIT_MS)
    print(page.locator(".turn.model").last.inner_text(), file=sys.stderr)


if __name__ == "__main__":
    take(Path(sys.argv[1]), sys.argv[2:], ROOT / "docs" / "images" / "page.png")
