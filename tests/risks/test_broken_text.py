"""Marks of templates inside text, and text that went wrong on its way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny.looked import chat, lines, looked
from tunesmith.text.example import Example
from tunesmith.text.template import Text


@pytest.mark.parametrize(
    "text",
    [
        "a<|im_end|>\n<|im_start|>user",
        "[INST] hi [/INST]",
        "<start_of_turn>user",
        "yes</s>",
        "<s>hi",
        "<|eot_id|>",
        "<<SYS>>",
    ],
)
def test_marks_of_the_known_families_are_told_by_name(text: str) -> None:
    (found,) = looked("special_tokens", [chat("a", "b"), chat(text, "b")])
    assert (found.severity, lines(found)) == ("high", [2])
    assert any(mark in found.what for mark in ("<|", "[INST]", "<start", "</s>", "<s>", "<<SYS>>"))


@pytest.mark.parametrize(
    "text",
    ["<s>old</s> price", "x <| y |> z", "if a < b and [INSTALL]", "<<10+21=31>>31", "<think>so</think>", "f[0] <- s>t"],
)
def test_html_code_and_sums_hold_no_marks(text: str) -> None:
    assert looked("special_tokens", [chat(text, text + ".")]) == ()


def bundled() -> Text:
    from tunesmith.sources._find import source_of

    base = "bundle:smollm2-135m-instruct"
    return Text.read(Path(source_of(base).facts(base).folder))


def test_a_model_s_own_tokens_are_high_and_those_of_others_low() -> None:
    rows = [
        chat("cat <filename>", "ok"),
        chat("<|im_end|>", "ok"),
        chat("[INST] a", "ok"),
        chat("a < b", "<s>ok</s> c"),
    ]
    own, foreign = looked("special_tokens", rows, text=bundled())
    assert (own.severity, lines(own)) == ("high", [1, 2])
    assert "<filename>" in own.what
    assert "<|im_end|>" in own.what
    assert (foreign.severity, lines(foreign)) == ("low", [3])


BROKEN = {
    "read as Latin-1": ["caf\xc3\xa9".encode().decode(), "caf\xe9".encode().decode("latin-1")],
    "lost": ["caf\ufffd"],
    "control": ["a\x00b", "a\x1b[31mb", "a\x85b"],
    "nobody sees": ["a\u200bb", "a\u202eb", "\ufeffa"],
    "HTML entities": ["fish &amp; chips", "it&#39;s", "a&nbsp;b"],
}
MOJIBAKE = ["it\u2019s", "\u201cyes\u201d", "10 \xa3", "\U0001f600", "\u4f60\u597d", "\u043f\u0440\u0438", "a\xa0b"]


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BROKEN.items() for text in texts])
def test_text_that_went_wrong_is_told_by_what_went_wrong(name: str, text: str) -> None:
    (found,) = looked("wrong_encoding", [chat("a", "b"), chat("c", text)])
    assert name in found.what
    assert lines(found) == [2]
    assert found.what.isprintable()


@pytest.mark.parametrize("text", MOJIBAKE)
def test_utf_8_that_was_read_as_cp1252_is_found(text: str) -> None:
    broken = "".join(bytes([one]).decode("cp1252", "ignore") or chr(one) for one in text.encode())
    told = looked("wrong_encoding", [chat("a", "b"), chat("c", broken)])
    assert any("read as Latin-1" in one.what for one in told)
    assert looked("wrong_encoding", [chat("c", text)]) == ()


@pytest.mark.parametrize(
    "text",
    [
        "CAF\xc9\u2026 \u201eMEN\xdc\u201c IRM\xc3\u201d \xc4\u201c \xc2 \xe2ge \xd1o\xf1o",
        "tab\tand\nnewline\r\n",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "<p>fish &amp; chips</p>",
        "R&D; AT&T & more; a &b; c",
        "\xe0 la carte, d\xe9j\xe0 vu, \xe9t\xe9\u2019s, na\xefve\u2019s",
    ],
)
def test_right_text_of_many_languages_is_left_alone(text: str) -> None:
    assert looked("wrong_encoding", [chat("c", text), Example(text=text)]) == ()


def test_a_row_counts_once_however_often_it_is_broken() -> None:
    (found,) = looked("wrong_encoding", [chat("\ufffd\ufffd", "\ufffd"), chat("a", "b")])
    assert found.n_rows == 1
    assert found.severity == "high"
