"""Takes docs/images/page.png: the page of a web export, in the system's Chromium, after a question was asked on it.

python tools/picture.py runs/NAME/exports/web "Why is the sky blue?" [MORE QUESTIONS]
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
SIZE = {"width": 820, "height": 520}


def take(folder: Path, questions: list[str], into: Path) -> None:
    """Asks the questions one after the other, and keeps what the page then looks like."""
    from browsing import Page, chromium
    from tunesmith.web.serve import serving

    with serving(folder) as url, chromium() as browser:
        page = Page(browser, url, SIZE, scale=1.5)
        page.load()
        for question in questions:
            print(page.ask(question), file=sys.stderr)
        page.tab.evaluate("document.activeElement.blur()")
        page.tab.screenshot(path=str(into))


if __name__ == "__main__":
    take(Path(sys.argv[1]), sys.argv[2:], ROOT / "docs" / "images" / "page.png")
