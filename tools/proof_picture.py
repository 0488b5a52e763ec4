"""Takes docs/images/prove.png: the page of `tunesmith prove`, down to its first won row, in the system's Chromium.

python tools/proof_picture.py runs/voice
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
SIZE = {"width": 1100, "height": 900}


def take(run: str, into: Path, scheme: str = "light") -> None:
    """Proves the run, and keeps what the page looks like."""
    from browsing import chromium
    from tunesmith.verbs.prove import prove

    page = prove(run).html.resolve()
    with chromium() as browser:
        tab = browser.new_page(viewport=SIZE, color_scheme=scheme)
        tab.goto(page.as_uri())
        rows = tab.locator("main section:has(.sides) article").first
        box = rows.bounding_box() if rows.count() else tab.locator("footer").bounding_box()
        below = box["y"] + box["height"] + 12
        tab.screenshot(path=str(into), full_page=True, clip={"x": 0, "y": 0, "width": SIZE["width"], "height": below})


if __name__ == "__main__":
    take(sys.argv[1], ROOT / "docs" / "images" / "prove.png")
