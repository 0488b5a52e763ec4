"""Tables in pages: what stands between two marks is written anew from the results."""

from __future__ import annotations

from pathlib import Path


def put(page: Path, begin: str, end: str, table: str) -> None:
    """Put the table between its marks; the rest of the page stays."""
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{table}{end}{after}", encoding="utf-8")
