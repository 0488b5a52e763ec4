"""Takes docs/images/inspect.png: the page of `tunesmith inspect`, down to its second example, in the system's Chromium.

python tools/inspect_picture.py chats.jsonl held-out.jsonl bundle:smollm2-135m-instruct
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
SIZE = {"width": 1200, "height": 900}


def take(data: str, test: str, model: str, into: Path) -> None:
    """Inspects the data, and keeps what the page looks like."""
    from browsing import chromium
    from tunesmith.verbs.inspect import inspect

    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        page = Path(folder) / "data.html"
        inspect(data, test=test, model=model, html=str(page))
        tab = browser.new_page(viewport=SIZE, color_scheme="light")
        tab.goto(page.as_uri())
        below = tab.locator("main section:last-of-type article").nth(2).bounding_box()["y"] - 4
        tab.screenshot(path=str(into), full_page=True, clip={"x": 0, "y": 0, "width": SIZE["width"], "height": below})


if __name__ == "__main__":
    take(*sys.argv[1:4], ROOT / "docs" / "images" / "inspect.png")
