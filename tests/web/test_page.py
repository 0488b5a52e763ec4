"""The page, opened in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import needs
from browsing import LOAD_MS, Page, chromium
from tiny.learnt import ANSWERS
from tunesmith.artifact import Export
from tunesmith.web.serve import serving

HOSTILE = '<img src=x onerror="document.title=\'broken\'"> <script>document.title="broken"</script>'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Any, learnt_web: Export) -> Iterator[Page]:
    with serving(learnt_web.folder) as url:
        opened = Page(browser, url)
        yield opened
        opened.tab.close()


def test_it_answers_what_was_learnt_over_several_turns(page: Page) -> None:
    page.load()
    for question, answer in ANSWERS.items():
        page.tab.click("#again") if page.tab.is_enabled("#again") else None
        assert page.ask(question) == answer
        note = page.tab.locator(".turn.model .note").last.inner_text()
        assert "tokens" in note
        assert "a second" in note
    assert page.ask("Say hello.")
    assert page.tab.locator(".turn").count() == 4
    assert page.outside() == []
    assert page.faults == []


def test_the_answer_comes_in_pieces(page: Page) -> None:
    page.load()
    page.tab.evaluate(
        """() => {
          window.seen = new Set();
          new MutationObserver(() => {
            const words = document.querySelector('.turn.model .words');
            if (words?.textContent) window.seen.add(words.textContent);
          }).observe(document.body, { childList: true, subtree: true, characterData: true });
        }"""
    )
    answer = page.ask("a red fox")
    seen = page.tab.evaluate("() => [...window.seen]")
    assert len(seen) > 2
    assert all(answer.startswith(piece.rstrip()) for piece in seen)


def test_markup_in_words_stays_text(page: Page) -> None:
    page.load("?limit=4")
    page.ask(HOSTILE)
    assert page.tab.locator(".turn.you .words").inner_text() == HOSTILE
    assert page.tab.locator(".turn img, .turn script, h1 b").count() == 0
    assert page.tab.title() == "Tiny <b>one</b>"
    assert page.tab.locator("h1").inner_text() == "Tiny <b>one</b>"
    assert page.faults == []
    # What the model says goes the same way: the page is told a text, and shows a text.
    page.tab.evaluate(
        """(words) => {
          const turn = document.querySelector('.turn.model .words');
          turn.textContent = words;
        }""",
        HOSTILE,
    )
    assert page.tab.locator(".turn img").count() == 0


def test_no_script_of_ours_writes_markup() -> None:
    texts = {name: (needs.WEB / name).read_text() for name in ("page.js", "worker.js", "index.html")}
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert [name for name, text in texts.items() if word in text] == []
    assert "default-src 'none'" in texts["index.html"]


def test_a_question_that_is_offered_is_asked_with_a_click(page: Page) -> None:
    page.load()
    page.tab.click("text=Say hello.")
    page.tab.wait_for_selector(".turn.model:not(.writing)", timeout=LOAD_MS)
    assert page.tab.locator(".turn.model .words").inner_text() == ANSWERS["Say hello."]


def test_on_the_processor_it_takes_the_dtype_that_is_fast_there(page: Page) -> None:
    page.load()
    facts = page.tab.locator("#facts li").all_inner_texts()
    assert facts[:2] == ["WebAssembly", "q8"]
    page.load("?dtype=q4")
    assert page.tab.locator("#facts li").all_inner_texts()[1] == "q4"
    assert page.ask("Say hello.") == ANSWERS["Say hello."]


def test_stop_ends_an_answer(page: Page, learnt_web: Export) -> None:
    about = json.loads((learnt_web.folder / "page.json").read_text())
    assert about["chat"]
    page.load("?limit=400")
    page.tab.fill("#text", "zzzz " * 12)
    page.tab.keyboard.press("Enter")
    page.tab.wait_for_selector("#stop:visible")
    page.tab.click("#stop")
    page.tab.wait_for_selector("#send:visible", timeout=20_000)
    note = page.tab.locator(".turn.model .note").last.inner_text()
    assert "stopped" in note or "token" in note
    assert page.ask("Say hello.")


def test_it_is_isolated_so_that_it_may_use_threads(page: Page) -> None:
    page.load()
    assert page.tab.evaluate("crossOriginIsolated") is True


def test_every_control_has_a_name_that_can_be_read_out(page: Page) -> None:
    page.load()
    page.tab.wait_for_selector("#text:enabled")
    assert page.tab.get_by_label("Your message").is_visible()
    assert page.tab.get_by_role("button", name="Send").is_visible()
    assert page.tab.get_by_role("log", name="Conversation").count() == 1
    assert page.tab.evaluate("document.documentElement.lang") == "en"
    assert page.tab.evaluate("document.activeElement.id") == "text"


def test_weights_that_are_gone_are_said_aloud(browser: Any, learnt_web: Export, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "export"
    shutil.copytree(learnt_web.folder, folder)
    (folder / "model/onnx/model_quantized.onnx").unlink()
    with serving(folder) as url:
        page = Page(browser, url)
        page.tab.goto(url)
        page.tab.wait_for_selector("#fault:visible", timeout=LOAD_MS)
        assert "model_quantized.onnx" in page.tab.locator("#fault").inner_text()
        page.tab.close()
