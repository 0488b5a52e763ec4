"""The page, opened in a real browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import needs
from browsing import LOAD_MS, Page, chromium, pretending
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


def test_markup_that_the_model_writes_stays_text(browser: Any, learnt_web: Export, tmp_path: Path) -> None:
    said = f"const HOSTILE = {json.dumps(HOSTILE)}; const post = self.postMessage.bind(self);"
    said += " self.postMessage = (one) => post(one.kind === 'text' ? { ...one, text: HOSTILE } : one);"
    with serving(pretending(learnt_web, tmp_path / "web", said)) as url:
        page = Page(browser, url)
        page.load()
        assert page.ask("Say hello.") == HOSTILE
        assert page.tab.locator(".turn img, .turn script").count() == 0
        assert page.tab.title() == "Tiny <b>one</b>"
        page.tab.close()


def test_no_script_of_ours_writes_markup() -> None:
    texts = {path.name: path.read_text() for path in needs.WEB.iterdir() if path.suffix in (".js", ".html")}
    assert {"page.js", "worker.js", "generate.js", "device.js", "file.js", "index.html"} <= set(texts)
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


@pytest.fixture(scope="module")
def endless_web(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """The page of a model that was never tuned: it does not end its answers by itself."""
    from tiny.models import save
    from tunesmith.artifact import Model
    from tunesmith.exports.web import Web

    needs.need_node()
    folder = tmp_path_factory.mktemp("endless")
    (folder / "web").mkdir()
    return Web(dtypes=("fp32",)).write(Model.of(save(folder / "model")), {}, folder / "web")


def test_stop_ends_an_answer(browser: Any, endless_web: Export) -> None:
    with serving(endless_web.folder) as url:
        page = Page(browser, url)
        page.load("?limit=400")
        page.tab.evaluate(
            """() => new MutationObserver((_, watch) => {
              const stop = document.getElementById('stop');
              if (stop.hidden || !document.querySelector('.turn.model .words')?.textContent) return;
              watch.disconnect();
              stop.click();
            }).observe(document.body, { childList: true, subtree: true, characterData: true })"""
        )
        page.ask("Say hello.")
        note = page.tab.locator(".turn.model .note").last.inner_text()
        assert note.endswith(", stopped")
        assert 0 < int(note.split()[0]) < 400
        page.ask("Say it again.")  # the page goes on after a stop
        assert "cut at the limit" in page.tab.locator(".turn.model .note").last.inner_text()
        page.tab.close()


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
    folder = tmp_path / "export"
    shutil.copytree(learnt_web.folder, folder)
    (folder / "model/onnx/model_quantized.onnx").unlink()
    with serving(folder) as url:
        page = Page(browser, url)
        page.tab.goto(url)
        page.tab.wait_for_selector("#fault:visible", timeout=LOAD_MS)
        assert "model_quantized.onnx" in page.tab.locator("#fault").inner_text()
        page.tab.close()


def test_a_safari_without_a_gpu_takes_the_plain_build(browser: Any, learnt_web: Export, tmp_path: Path) -> None:
    old = """const safari = "Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 Version/17.4 Safari/605.1.15";
    for (const [name, value] of [["vendor", "Apple Computer, Inc."], ["userAgent", safari]])
      Object.defineProperty(navigator, name, { value });
    delete WorkerNavigator.prototype.gpu;"""
    with serving(pretending(learnt_web, tmp_path / "web", old)) as url:
        page = Page(browser, url)
        page.load()
        assert page.ask("Say hello.") == ANSWERS["Say hello."]
        taken = {one.rsplit("/", 1)[-1] for one in page.asked if one.endswith(".wasm")}
        assert taken == {"ort-wasm-simd-threaded.wasm"}
        page.tab.close()


@pytest.mark.parametrize("query", ["?dtype=q9", "?device=abacus"])
def test_what_is_not_here_is_said_with_what_is(browser: Any, learnt_web: Export, query: str) -> None:
    with serving(learnt_web.folder) as url:
        page = Page(browser, url)
        page.tab.goto(url + query)
        page.tab.wait_for_selector("#fault:visible", timeout=LOAD_MS)
        assert "here, but: " in page.tab.locator("#fault").inner_text()
        page.tab.close()


@pytest.mark.parametrize("width", [320, 360])
def test_it_fits_a_phone(browser: Any, learnt_web: Export, width: int) -> None:
    with serving(learnt_web.folder) as url:
        page = Page(browser, url, {"width": width, "height": 640})
        page.load()
        assert page.tab.evaluate("document.documentElement.scrollWidth") == width
        page.ask("Say hello.")
        assert page.tab.evaluate("document.documentElement.scrollWidth") == width
        page.tab.close()


def test_a_conversation_longer_than_the_context_loses_its_oldest_turns(page: Page) -> None:
    page.load("?limit=8")
    for _ in range(3):
        page.ask("zq xv " * 30)
    assert "older messages" in page.tab.locator(".turn.model .note").last.inner_text()
    assert page.tab.locator("#fault").is_hidden()


def test_a_message_longer_than_the_context_is_given_back(page: Page) -> None:
    page.load()
    assert page.ask("Say hello.") == ANSWERS["Say hello."]
    long = "zq xv " * 400
    page.tab.fill("#text", long)
    page.tab.keyboard.press("Enter")
    page.tab.wait_for_selector("#fault:visible", timeout=LOAD_MS)
    assert "this message is too long" in page.tab.locator("#fault").inner_text()
    assert page.tab.input_value("#text") == long
    assert page.tab.locator(".turn").count() == 2
    page.ask("Say hello.")
    assert page.tab.locator("#fault").is_hidden()
    assert page.tab.locator(".turn").count() == 4


def test_opened_as_a_file_it_says_what_to_type(browser: Any, learnt_web: Export) -> None:
    tab = browser.new_page()
    tab.goto((learnt_web.folder / "index.html").as_uri())
    tab.wait_for_selector("#fault:visible", timeout=LOAD_MS)
    assert "python3 -m http.server 8000" in tab.locator("#fault").inner_text()
    assert tab.locator("#loading").is_hidden()
    tab.close()


def test_neither_page_nor_worker_reaches_another_origin(page: Page, learnt_web: Export) -> None:
    page.load()
    with serving(learnt_web.folder) as other:
        ask = f"fetch({other!r}, {{ mode: 'no-cors' }}).then(() => 'came through', () => 'stopped')"
        assert page.tab.evaluate(ask) == "stopped"
        assert page.tab.workers[0].evaluate(ask) == "stopped"
        assert page.tab.workers[0].evaluate("fetch('page.json').then((reply) => reply.status)") == 200
