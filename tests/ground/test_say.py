from __future__ import annotations

from collections.abc import Iterator

import pytest

from tunesmith import say
from tunesmith.errors import Fault, RecipeError, TunesmithError


@pytest.fixture(autouse=True)
def _own_voice() -> Iterator[None]:
    before = say.hear(say.Plain())
    yield
    say.hear(before)


def test_notes_and_warnings_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say.note("a")
    say.warn("b")
    assert capsys.readouterr() == ("", "a\nwarning: b\n")


def test_a_silent_voice_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    say.hear(say.Silent())
    say.note("a")
    say.warn("b")
    with say.progress("c", 3, "d") as bar:
        bar.advance(1, "e")
    assert capsys.readouterr() == ("", "")


def test_a_short_task_says_nothing_and_a_long_one_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with say.progress("tune", 300, "steps") as bar:
        bar.advance(1)
    assert capsys.readouterr().err == ""
    with say.progress("tune", 300, "steps") as bar:
        clock[0] = 10.0
        bar.advance(12, "loss 1.5")
        clock[0] = 15.0
        bar.advance(1)
        clock[0] = 41.0
    assert capsys.readouterr().err == "tune: 12 of 300 steps loss 1.5\ntune: 13 steps in 41 s\n"


def test_a_task_that_fails_says_no_success(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 100.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))
    with pytest.raises(ZeroDivisionError), say.progress("tune"):
        _ = 1 / 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("at", "total", "unit", "words"),
    [
        (12, 300, "steps", "12 of 300 steps"),
        (1500, None, "rows", "1,500 rows"),
        (1.5e6, 98e6, "bytes", "1.5 of 98.0 MB"),
        (0.5, 2, "", "0.5 of 2"),
    ],
)
def test_an_amount_reads_well(at: float, total: float | None, unit: str, words: str) -> None:
    assert say.amount_of(at, total, unit) == words


def test_a_fault_reads_in_three_lines_and_names_its_place() -> None:
    fault = Fault("data/not-json", "line is not JSON", "mend it", file="a.jsonl", line=17, key="messages[2].role")
    assert (
        str(fault)
        == "error[data/not-json]: line is not JSON\n  at   a.jsonl, line 17, messages[2].role\n  fix  mend it"
    )
    assert str(Fault("a/b", "c", "d")) == "error[a/b]: c\n  fix  d"
    assert fault.as_json() == {
        "code": "data/not-json",
        "what": "line is not JSON",
        "at": "a.jsonl, line 17, messages[2].role",
        "fix": "mend it",
    }


def test_an_error_holds_all_its_faults_and_at_least_one() -> None:
    two = TunesmithError([Fault("a/b", "c", "d"), Fault("e/f", "g", "h")])
    assert str(two) == "error[a/b]: c\n  fix  d\n\nerror[e/f]: g\n  fix  h"
    assert (two.exit_code, RecipeError(Fault("a/b", "c", "d")).exit_code) == (1, 2)
    with pytest.raises(ValueError, match="says nothing"):
        TunesmithError([])
