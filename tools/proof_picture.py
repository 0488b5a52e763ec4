"""Takes docs/images/prove.png: the page of `tunesmith prove`, down to its first won row, in the system's Chromium.

python tools/proof_picture.py runs/voice
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
SIZE = {"width": 1100, "height": 900}
WITHOUT_FOLDERS = r"""() => {
  const folders = /\/[^\s,]*\/(?=[^\/\s,]+\.jsonl)/g;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replace(folders, "");
}"""


def take(run: Path, into: Path, scheme: str = "light") -> None:
    """Keeps what the page of a proved run looks like; of the files that it names, no folder."""
    from browsing import chromium

    page = (run / "proof" / "report.html").resolve()
    with chromium() as browser:
        tab = browser.new_page(viewport=SIZE, color_scheme=scheme)
        tab.goto(page.as_uri())
        tab.evaluate(WITHOUT_FOLDERS)
        rows = tab.locator("main section:has(.sides) article").first
        box = rows.bounding_box() if rows.count() else tab.locator("footer").bounding_box()
        below = box["y"] + box["height"] + 12
        tab.screenshot(path=str(into), full_page=True, clip={"x": 0, "y": 0, "width": SIZE["width"], "height": below})


if __name__ == "__main__":
    take(Path(sys.argv[1]), ROOT / "docs" / "images" / "prove.png")
