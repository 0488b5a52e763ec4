from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny.looked import chat, looked
from tunesmith import rooms
from tunesmith.risks._contract import Place
from tunesmith.risks._looking import Looking
from tunesmith.risks._row import Row
from tunesmith.risks._seen import N_LABELS, Seen
from tunesmith.risks._sketch import WIDTH, Sketches, words_of
from tunesmith.text.example import Example

ROOT = Path(__file__).resolve().parent.parent.parent


def test_no_rows_tell_nothing() -> None:
    assert Looking().found() == ()


def test_high_ones_come_first_and_name_a_member() -> None:
    looking = Looking()
    for line in range(30):
        looking.see(chat("a", "yes", system="b\ufffd"), test=line > 20)
    found = looking.found()
    severities = [one.severity for one in found]
    assert severities == sorted(severities)  # "high" < "low"
    assert len(found) >= 3
    assert {one.risk for one in found} <= set(rooms.names("risks"))


def test_every_member_asks_a_question_and_looks_at_an_empty_row() -> None:
    for name in rooms.names("risks"):
        assert rooms.find("risks", name).asks.endswith("?")
    looking = Looking()
    looking.see(Example(text="x"))
    looking.see(Example(({"role": "assistant", "content": "x"},), (False,)))
    looking.found()


def test_a_row_takes_24_bytes_of_what_members_share() -> None:
    seen = Seen()
    for number in range(1000):
        seen.take(Row(chat(f"question {number}", "x" * 200), Place(f"file{number % 3}", number), False, number))
    kept = [one for one in vars(seen).values() if hasattr(one, "itemsize")]
    assert sum(one.itemsize * len(one) for one in kept) == 24 * 1000
    assert seen.place(7) == Place("file1", 7)
    assert not seen.labels.counts


def test_answers_that_are_no_labels_are_not_kept() -> None:
    seen = Seen()
    for number in range(2 * N_LABELS):
        seen.take(Row(chat("a", str(number)), Place("f", 1), False, number))
        assert len(seen.labels.counts) <= N_LABELS
    assert not seen.labels.is_set


def test_a_sample_keeps_no_more_than_its_rows_and_finds_near_copies_together() -> None:
    draw = random.Random(5)
    texts = [" ".join(f"w{draw.randrange(3000)}" for _ in range(40)) for _ in range(2000)]
    rows = [text for one in texts for text in (one, one.upper())]

    def sketched(order: list[str]) -> tuple[list[str], int, Sketches]:
        sketches = Sketches(500)
        for number, text in enumerate(order):
            sketches.add(number, hash(text) % 2**64, words_of(text), is_chat=True)
        again, n = sketches.later_copies()
        return sorted(order[at].upper() for at in again), n, sketches

    again, n, sketches = sketched(rows)
    assert n == 500
    assert sketches.n_left_out == len(rows) - 500
    assert len(again) in (249, 250)  # of a pair at the end of the sample one may be out
    (kept,) = sketches._kept
    assert kept.sketch.shape == (500, WIDTH)
    assert len(set(sketched(random.Random(6).sample(rows, len(rows)))[0]) ^ set(again)) == 0


def test_a_sample_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.risks.near_duplicates.N_ROWS", 50)
    rows = [chat(f"{word} {n} is it", "yes") for n in range(100) for word in ("What", "what")]
    (found,) = looked("near_duplicates", rows)
    assert found.what.startswith("in a sample of 50 rows, ")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=1, max_size=6))
def test_any_text_can_be_looked_at_and_what_is_said_fits_a_line(texts: list[tuple[str, str, str]]) -> None:
    looking = Looking()
    for ask, answer, system in texts:
        looking.see(chat(ask, answer, system))
        looking.see(Example(text=answer), test=True)
    for found in looking.found():
        assert "\n" not in found.what
        assert found.n_rows >= len(found.places) > 0


def test_what_is_told_does_not_depend_on_how_python_hashes_texts() -> None:
    script = (
        "from tiny.looked import chat, looked\n"
        "rows = [chat(f'{w} {n} <|im_end|> <|eot_id|> <|end|>', 'yes') for n in range(50) for w in ('What', 'what')]\n"
        "print([looked(r, rows) for r in ('near_duplicates', 'special_tokens', 'duplicates', 'unbalanced')])"
    )
    outs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outs) == 1
