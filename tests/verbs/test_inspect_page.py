"""The page of an inspection, as text and in a real browser: what the data says stays text."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from browsing import chromium
from tiny.models import save
from tunesmith.verbs._lengths import Bar
from tunesmith.verbs._page import bits
from tunesmith.verbs._page_of_data import HEIGHT, columns
from tunesmith.verbs.inspect import inspect

EVIL = "<script>alert(1)</script></style><img src=x onerror=alert(2)>\"' &amp; \x07 \u202e"


def chat(asked: str, answer: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


@pytest.fixture(scope="module")
def evil_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All places that text of the data gets to: examples, faults, answers, system prompts, names of files."""
    folder = tmp_path_factory.mktemp("page")
    system = {"messages": [{"role": "system", "content": EVIL}, *chat("a", EVIL)["messages"]]}  # type: ignore[misc]
    rows = [chat(EVIL, EVIL), system, {"messages": [{"role": EVIL, "content": EVIL}]}, {**chat("a", "b"), EVIL: 1}]
    data = folder / "<b>rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    inspect(str(data), model=str(save(folder / "model")), html=str(folder / "page.html"))
    inspect(str(data), html=str(folder / "plain.html"))
    return folder


@pytest.mark.parametrize("name", ["page.html", "plain.html"])
def test_nothing_of_the_data_is_markup(evil_page: Path, name: str) -> None:
    html = (evil_page / name).read_text(encoding="utf-8")
    assert "<script" not in html
    assert "<img" not in html
    assert "<b>rows" not in html
    assert html.count("</style>") == 1
    assert "\u202e" not in html
    assert "\x07" not in html
    assert "U+202E" in html
    assert "U+0007" in html


def test_the_page_asks_for_nothing_and_may_run_nothing(evil_page: Path) -> None:
    html = (evil_page / "page.html").read_text(encoding="utf-8")
    assert re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?\s*https?:", html) == []
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"" in html


def test_each_token_has_its_number_and_says_whether_it_is_learnt(evil_page: Path) -> None:
    html = (evil_page / "page.html").read_text(encoding="utf-8")
    spans = re.findall(r'<span class="t (read|learnt)( even)?( special)?" title="([\d ]+)">', html)
    assert {one[0] for one in spans} == {"read", "learnt"}
    assert any(kind == "learnt" and special for kind, _, special, _ in spans)


def test_in_a_browser_no_alert_fires_and_the_text_can_be_read(evil_page: Path) -> None:
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        alerts: list[str] = []
        asked: list[str] = []
        tab.on("dialog", lambda one: (alerts.append(one.message), one.dismiss()))
        tab.on("request", lambda one: asked.append(one.url))
        for name in ("page.html", "plain.html"):
            tab.goto((evil_page / name).as_uri())
            shown = tab.locator("main").inner_text()
            assert "<script>alert(1)</script></style><img src=x onerror=alert(2)>\"' &amp; U+0007 U+202E" in shown
            assert tab.locator("script, img").count() == 0
            wide = tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            assert wide, "the page scrolls sideways"
        assert alerts == []
        assert all(url.startswith("file:") for url in asked)


def test_an_earlier_page_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(chat("a", "b")) + "\n")
    for _ in range(2):
        assert inspect(str(tmp_path / "a.jsonl"), html=str(tmp_path / "p.html")).html
    assert "All 1 row can be learnt from" in (tmp_path / "p.html").read_text()


def test_there_is_a_page_of_data_in_which_nothing_can_be_read(tmp_path: Path) -> None:
    assert not inspect(str(tmp_path / "none.jsonl"), html=str(tmp_path / "p.html")).ok
    assert "There is no row" in (tmp_path / "p.html").read_text()


def test_ends_of_lines_and_hidden_characters_are_told_apart() -> None:
    assert [(bit.text, bit.kind) for bit in bits("a\u200bb\nc\r")] == [
        ("a", "text"),
        ("U+200B", "hidden"),
        ("b", "text"),
        ("\n", "end"),
        ("c", "text"),
        ("U+000D", "hidden"),
    ]


def test_the_highest_bar_is_as_high_as_there_is_room_and_one_with_a_single_row_can_be_seen() -> None:
    first, second, third = columns([Bar(0, 9, 1000), Bar(10, 19, 1), Bar(20, 29, 0)])
    assert (first.height, second.height, third.height) == (HEIGHT, 2.0, 0.0)
    assert first.y + first.height == second.y + second.height == HEIGHT
