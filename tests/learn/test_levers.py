"""What a run does not compute, counted by hand."""

from __future__ import annotations

from typing import Any

import pytest

from tiny.settings import settings
from tunesmith.learn.levers import Work, told
from tunesmith.text.example import Tokens


def row(head: int, tail: int, n_tail: int) -> Tokens:
    """`head` tokens that all such rows have, then `n_tail` of its own, which are learnt."""
    return Tokens((*range(100, 100 + head), *([tail] * n_tail)), (*([0.0] * head), *([1.0] * n_tail)))


ROWS = [row(40, 1, 5), row(40, 2, 9), row(40, 3, 4), row(0, 4, 11)]


def test_tokens_are_counted_in_all_epochs() -> None:
    work = Work.of(ROWS, settings(rows_per_step=4, epochs=3.0), None)
    assert work.n_rows == 12
    assert work.tokens == 3 * (45 + 49 + 44 + 11)
    assert work.learnt == 3 * (5 + 9 + 4 + 10)
    assert work.padded == 3 * 4 * 49
    assert work.computed == work.tokens - 3 * 2 * 40


def test_rows_of_other_steps_and_rows_longer_than_the_window_share_nothing() -> None:
    assert Work.of(ROWS, settings(rows_per_step=1), None).computed == 2 * 149
    assert Work.of(ROWS, settings(rows_per_step=4, epochs=1.0), 44).computed == 149, "one is left"
    assert Work.of(ROWS, settings(rows_per_step=4, epochs=1.0), 48).computed == 149 - 40


def values(lowest: int, **changes: Any) -> dict[str, str]:
    asked = settings(rows_per_step=4, **changes)
    return {
        one.name: f"{one.value}: {one.why}"
        for one in told(Work.of(ROWS, asked, None), asked, lowest=lowest, n_layers=8)
    }


def test_each_is_said_with_its_reason() -> None:
    said = values(0, epochs=1.0)
    assert list(said) == ["padding", "shared", "head", "backward", "attention"]
    assert "196 tokens" in said["padding"]
    assert said["shared"].startswith("54% of the tokens")
    assert said["head"] == "28 tokens: only they have a loss: 19% of all"
    assert said["backward"].startswith("8 of 8 layers")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"epochs": 1.0}, "each row comes once"),
        ({"epochs": 3.0}, "no room"),
        ({"epochs": 3.0, "keeps_below": True}, "in each of 3 epochs"),
    ],
)
def test_why_frozen_layers_are_kept_or_not(changes: dict[str, Any], word: str) -> None:
    said = values(6, **changes)
    assert said["backward"].startswith("2 of 8 layers")
    assert said["below"].startswith("kept on disk" if "keeps_below" in changes else "computed")
    assert word in said["below"]


def test_attention_that_goes_back_by_products_is_counted_in_pairs() -> None:
    """100 tokens and more, in bfloat16, on a processor."""
    alone = [row(0, 1, 100), row(0, 2, 99)]
    seen, unseen = 100 * 101 // 2, 99 * 100 // 2
    apart = {"rows_per_step": 2, "epochs": 1.0}
    assert work_of(alone, **apart).back_by_products == pytest.approx(seen / (seen + unseen))
    assert work_of(alone, **apart, dtype="float32").back_by_products == 0
    assert work_of(alone, **apart, device="cuda").back_by_products == 0


def test_what_many_short_rows_ask_of_a_long_beginning_goes_back_by_products() -> None:
    """Three times 40 tokens ask 600; those 600 ask themselves, and so do the 40 of each row, which are too few."""
    asked = work_of([row(600, 1, 40), row(600, 2, 40), row(600, 3, 40)], rows_per_step=3, epochs=1.0)
    by_products = 600 * 601 // 2 + 3 * 40 * 600
    assert asked.back_by_products == pytest.approx(by_products / (by_products + 3 * (40 * 41 // 2)))


def work_of(rows: list[Tokens], **changes: Any) -> Work:
    return Work.of(rows, settings(**{"dtype": "bfloat16", **changes}), None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dtype": "bfloat16"}, "100% back by matrix products: in bfloat16"),
        ({"dtype": "float32"}, "torch's kernel: in float32"),
        ({"dtype": "bfloat16", "device": "cuda"}, "torch's kernel: on a GPU"),
    ],
)
def test_how_attention_goes_back_is_said_with_the_reason(changes: dict[str, Any], said: str) -> None:
    asked = settings(rows_per_step=1, epochs=1.0, **changes)
    told_so = told(Work.of([row(0, 1, 300)], asked, None), asked, lowest=0, n_layers=8)
    (found,) = [f"{one.value}: {one.why}" for one in told_so if one.name == "attention"]
    assert found.startswith(said)


def test_short_rows_go_back_by_the_kernel() -> None:
    said = {
        one.name: one for one in told(work_of(ROWS, rows_per_step=4), settings(dtype="bfloat16"), lowest=0, n_layers=8)
    }
    assert said["attention"].value == "torch's kernel"
    assert "short" in said["attention"].why
