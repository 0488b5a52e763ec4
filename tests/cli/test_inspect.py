"""What `tunesmith inspect` prints and with what it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith.cli import main
from tunesmith.cli.inspected import BAR_WIDTH, _bar

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(name: str, *said: tuple[str, str]) -> None:
    made = [{"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]} for a, b in said]
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in made))


def test_thousands_of_faults_are_told_in_a_few_lines(capsys: Capture) -> None:
    Path("a.jsonl").write_text('{"messages": [{"role": "user", "content": "hi"}]}\n' * 3000 + "{broken\n")
    assert main(["inspect", "a.jsonl"]) == 1
    out = capsys.readouterr().out
    assert "error[data/no-assistant], 3,000 times" in out
    assert "a.jsonl, line 1, messages; a.jsonl, line 2, messages; a.jsonl, line 3, messages ..." in out
    assert "3,001 faults; all of them with: --json" in out
    assert len(out.splitlines()) < 20


def test_the_lengths_are_plotted_where_there_are_rows_enough(capsys: Capture) -> None:
    rows("a.jsonl", *[("hi", "x" * (number % 10 + 1)) for number in range(100)])
    assert main(["inspect", "a.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "characters a row: mean 8, median 7, 95% up to 12, longest 12" in out
    assert f" 3  {'█' * BAR_WIDTH} 10" in out
    assert "10.0%       10  x\n" in out


@pytest.mark.parametrize(
    ("systems", "told"),
    [(["be brief " * 10] * 2, True), (["be brief " * 9] * 2, False), (["be brief " * 10, "be long " * 10], False)],
)
def test_a_long_system_prompt_of_all_rows_is_told_with_what_saves_it(
    systems: list[str], told: bool, capsys: Capture
) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    made = [{"messages": [{"role": "system", "content": one}, *turns]} for one in systems]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    assert main(["inspect", "a.jsonl"]) == 0
    out = capsys.readouterr().out
    assert ("20 words that all rows begin with: with data.system_prompt: drop" in out) == told


def test_a_bar_is_as_long_as_its_share_and_never_nothing() -> None:
    assert _bar(1.0) == "█" * BAR_WIDTH
    assert _bar(0.5) == "█" * (BAR_WIDTH // 2)
    assert _bar(1e-9) == "▏"
    assert _bar(0.0) == ""


def test_risks_do_not_fail_unless_it_is_strict(capsys: Capture) -> None:
    rows("a.jsonl", *[("hi", "ho")] * 10)
    assert main(["inspect", "a.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "risk[duplicates] high: 9 rows (90 %) are copies of an earlier one" in out
    assert main(["inspect", "a.jsonl", "--strict"]) == 1


def test_what_was_written_is_told(capsys: Capture) -> None:
    Path("a.jsonl").write_text(
        '{"messages": [{"role": "human", "content": "hi"}, {"role": "assistant", "content": "ho"}]}\n{broken\n'
    )
    assert main(["inspect", "a.jsonl", "--fix", "b.jsonl", "--html", "p.html"]) == 1
    out = capsys.readouterr().out
    assert "wrote b.jsonl: 1 row\n  role 'human' written as 'user': 1\n" in out
    assert "1 row could not be mended: b.rejected.jsonl\n  data/not-json: 1, first at a.jsonl, line 2\n" in out
    assert "wrote p.html" in out
    assert main(["inspect", "b.jsonl"]) == 0
    assert main(["inspect", "a.jsonl", "--fix", "b.jsonl"]) == 2


@pytest.mark.parametrize("name", ["none.jsonl", "folder", "locked.jsonl"])
def test_what_cannot_be_read_is_told_without_a_traceback(name: str, capsys: Capture) -> None:
    Path("folder").mkdir()
    if name == "locked.jsonl":
        Path(name).mkdir()
    assert main(["inspect", name, "--html", "p.html", "--fix", "b.jsonl"]) == 1
    captured = capsys.readouterr()
    assert "error[data/" in captured.out
    assert "Traceback" not in captured.out + captured.err
    assert "tunesmith/bug" not in captured.out + captured.err


def test_bidi_marks_do_not_turn_the_terminal(capsys: Capture) -> None:
    rows("a.jsonl", ("hi \u202egnirts", "ho"))
    main(["inspect", "a.jsonl"])
    out = capsys.readouterr().out
    assert "hi \\u202egnirts" in out
    assert "\u202e" not in out
