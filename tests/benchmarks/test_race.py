"""The race's gates and ratios by hand, and tunesmith's side of it on a tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from needs import ROOT
from tiny.models import save
from tiny.rows import write_chats

HOW_IT_ENDS = ("kill -9 $$", "exit 3")
RACE = ROOT / "benchmarks" / "race"
NAMES = ("gates", "job", "report", "page", "course_page", "courses", "works", "sides")


@pytest.fixture
def race(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Its modules, which import each other by their plain names."""
    import importlib

    monkeypatch.syspath_prepend(str(RACE))
    return {name: importlib.import_module(name) for name in NAMES}


def test_a_gradient_that_points_elsewhere_is_red(race: dict[str, ModuleType]) -> None:
    cosines = race["gates"].cosines
    right = {"a": torch.tensor([3.0, 4.0]), "b": torch.tensor([1.0, 0.0]), "c": torch.tensor([0.0, 2.0])}
    assert cosines({name: 7 * one for name, one in right.items()}, right, "float32")["green"]
    turned = {**right, "b": torch.tensor([0.99, (1 - 0.99**2) ** 0.5])}
    found = cosines(turned, right, "float32")
    assert (found["green"], found["least_at"], found["weights"]) == (False, "b", 3)
    assert found["least"] == pytest.approx(0.99, abs=1e-6)
    assert cosines(turned, right, "bfloat16")["green"]
    assert not cosines({**right, "b": torch.tensor([0.9, 0.43])}, right, "bfloat16")["green"]
    assert "b" in cosines({"a": right["a"], "c": right["c"]}, right, "float32")["why"]


def test_a_loss_that_begins_or_goes_elsewhere_is_red(race: dict[str, ModuleType]) -> None:
    gates = race["gates"]
    assert gates.first_loss(2.00001, 2.0, "float32")["green"]
    assert not gates.first_loss(2.0001, 2.0, "float32")["green"]
    assert gates.first_loss(2.001, 2.0, "bfloat16")["green"]
    assert not gates.first_loss(2.01, 2.0, "bfloat16")["green"]
    flat = [2.0] * 20
    assert gates.course([2.3, *flat[1:10], *flat[10:]], flat)["largest"] == pytest.approx(0.015)
    assert not gates.course([2.3, *flat[1:]], flat)["green"]
    assert gates.course([2.1, *flat[1:]], flat)["green"]
    assert gates.rounding([[2.02, *flat[1:]]], flat) == gates.BAND  # 0.001 off, and so much is allowed anyway
    noise = gates.rounding([[*flat[:10], *[2.02] * 10], [*[1.94] * 10, *flat[10:]]], flat)
    assert noise == pytest.approx(3 * ((0.01**2 + 0.03**2) / 4) ** 0.5)  # of four gaps two are none
    found = gates.course([2.3, *flat[1:]], flat, band=noise)
    assert found["green"]
    assert found["spread"] == pytest.approx(0.015 / 2**0.5)
    assert not gates.course([3.2, *flat[1:]], flat, band=noise)["green"]


def test_speed_and_ratios_are_those_of_a_hand(race: dict[str, ModuleType]) -> None:
    """Three steps of two rows of four tokens, two of them learnt; the first step does not count."""
    report = race["report"]
    row: tuple[list[int], list[float]] = ([1, 2, 3, 4], [1.0, 0.0, 1.0, 1.0])  # what stands first is never learnt
    steps = [[0, 1], [2, 3], [4, 5]]
    job = race["job"].Job([row] * 6, steps, {}, 1e-3, 1.0, 1, {}, [])

    def told(*seconds: float, peak: int) -> dict[str, Any]:
        return {"step_seconds": list(seconds), "first_step_seconds": 9.0, "losses": [1.0], "peak_bytes": peak}

    ours = [told(1.0, 1.0, peak=10), told(1.0, 3.0, peak=12)]
    theirs = [told(2.0, 4.0, peak=30), told(6.0, 2.0, peak=36)]
    assert report.speed(ours[0], job) == 8 / 2.0
    made = report.figures(ours, job)
    assert made["padded_tokens_per_second"] == 6.0  # all rows are of one length
    longer = race["job"].Job([row, (row[0] * 2, row[1] * 2)] * 3, steps, {}, 1e-3, 1.0, 1, {}, [])
    assert [longer.tokens(steps[0]), longer.padded(steps[0])] == [12, 16]
    assert made["learnt_tokens_per_second"] == 3.0  # of 4 and 2
    assert made["rows_per_second"] == 1.5
    assert made["tokens_per_second"] == 6.0
    assert made["median_step_seconds"] == 1.0
    assert made["p95_step_seconds"] == 3.0
    sides = {
        name: {**report.figures(rounds, job), "rounds": rounds}
        for name, rounds in {"tunesmith": ours, "trl": theirs}.items()
    }
    sides["other"] = {"refused": "no"}
    assert report.ratios(sides) == {
        "best_peer": "trl",
        "speed": 2.5,  # 3 in one round, 2 in the other
        "memory": 3.0,
        "each": {"trl": {"speed": 2.5, "rounds": [3.0, 2.0], "memory": 3.0}},
    }


def test_a_side_that_has_no_memory_left_says_so(race: dict[str, ModuleType]) -> None:
    """It is ended in the middle of a line that has nothing to do with it."""
    log = "loading\nstep 1\n"
    killed, failed = (os.waitpid(os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", how), 0)[1] for how in HOW_IT_ENDS)
    assert race["report"].last_words(failed, log) == ["step 1"]
    last, why = race["report"].last_words(killed, log)
    assert last == "step 1"
    assert "SIGKILL" in why
    assert "no memory" in why


def test_peers_may_be_given_another_course(race: dict[str, ModuleType]) -> None:
    row: tuple[list[int], list[float]] = ([1, 2, 3, 4], [1.0, 0.0, 1.0, 1.0])
    longer = {"steps": [[0], [1], [1], [0]], "learning_rate": 2e-4}
    job = race["job"].Job([row] * 2, [[0], [1]], {}, 1e-3, 1.0, 1, {}, [], longer)
    assert [job.of(name).learning_rate for name in ("tunesmith", "tunesmith-fp32", "trl")] == [1e-3, 1e-3, 2e-4]
    told = {"step_seconds": [1.0, 2.0, 1.0], "first_step_seconds": 9.0, "losses": [1.0], "peak_bytes": 1}
    assert race["report"].figures([told], job.of("trl"))["learnt_tokens_per_second"] == 6 / 4.0
    said = race["page"]._otherwise
    assert said({"steps": 2, "learning_rate": 1e-3}) == ""
    beside = said({"steps": 2, "learning_rate": 1.1e-3, "peers": {"steps": 4, "learning_rate": 2e-4}})
    assert "2 steps at 0.0011" in beside
    assert "beside 4 at 0.0002" in beside


def test_the_page_shows_what_the_results_say(race: dict[str, ModuleType]) -> None:
    page = race["page"]
    results = ROOT / "benchmarks" / "results" / "race.json"
    tree = json.loads(results.read_text(encoding="utf-8"))
    courses = race["report"].read(race["courses"].RESULTS)
    made = page.table(tree, courses)
    assert made.count("\n| ") - 1 == sum(len(machines) for machines in tree.values()) >= 3
    for path in page.PAGES:
        assert made in path.read_text(encoding="utf-8")
    assert page.picture(tree) == page.PICTURE.read_text(encoding="utf-8")
    told = race["course_page"].table(courses)
    assert told.count("\n| ") == sum(len(machines) for machines in courses.values()) >= 8
    assert told in page.PAGES[0].read_text(encoding="utf-8")
    assert race["course_page"].picture(courses) == page.COURSES.read_text(encoding="utf-8")


def test_a_gate_that_nobody_judged_is_said_not_to_be(race: dict[str, ModuleType]) -> None:
    """A course over a few steps is none; one that was judged by itself counts for the race."""
    said = race["page"]._gates
    green, red = {"green": True}, {"green": False}
    first = {"dtype": "float32", "first_loss": green, "gradient": green}
    assert said({**first, "course": {**green, "stretches": 10}}, {}) == "green"
    assert said({**first, "course": {**green, "stretches": 9}}, {}) == "green; course not judged"
    assert said(first, {}) == "green; course not judged"
    assert said(first, {"refused": "no", "gates": {}}) == "green; course not judged"
    assert said(first, {"gates": {"course": green}}) == "green"
    assert said(first, {"gates": {"course": red}}) == "red: course"
    assert said({**first, "course": {**red, "stretches": 1}}, {"gates": {"course": green}}) == "green"
    assert said({"dtype": "float32", "first_loss": red, "gradient": green}, {}) == "red: first_loss; course not judged"


def test_a_course_is_of_a_hundred_steps_of_the_same_work(race: dict[str, ModuleType]) -> None:
    works = race["works"].WORKS
    assert len(works) >= 12
    assert set(race["courses"].SIDES) <= set(race["sides"].SIDES)
    assert set(race["sides"].SIDES) - set(race["sides"].RACED) == {"hf-one-by-one"}
    for work in works.values():
        course = work.course()
        assert 100 <= course.steps * course.epochs < 100 + course.epochs
        assert (course.name, course.data, course.model, course.method) == (
            work.name,
            work.data,
            work.model,
            work.method,
        )
        assert 1 <= course.rows_per_step <= work.rows_per_step
        assert course.peers_rate is None is course.peers_epochs


def test_a_course_may_be_off_as_far_as_rounding_takes_a_peer_of_its_type(race: dict[str, ModuleType]) -> None:
    """Twenty steps by hand: the peer in bfloat16 is 3 % off in half of them, and the one with other sums 2 %."""
    judged = race["courses"].judged
    exact = [2.0] * 20
    courses = {"tunesmith": [2.1] * 20, "hf": exact, "hf-bf16": exact[:10] + [1.94] * 10}
    assert judged([2.05] * 20, "bfloat16", courses)["bound"] == pytest.approx(3 * 0.03 / 2**0.5)
    assert judged([2.05] * 20, "float32", courses)["bound"] == 0.01
    courses["hf-one-by-one"] = exact[:10] + [2.04] * 10
    assert judged([2.05] * 20, "float32", courses)["bound"] == pytest.approx(3 * 0.02 / 2**0.5)
    assert judged([2.05] * 20, "bfloat16", courses)["bound"] == pytest.approx(3 * 0.03 / 2**0.5)
    assert judged([2.05] * 20, "float32", courses)["green"]
    assert not judged([2.1] * 20, "float32", courses)["green"]
    assert judged([2.05] * 10, "float32", courses) is None  # another course
    assert judged([2.05] * 20, "float32", {"hf-bf16": exact}) is None


def test_a_course_is_told_beside_that_of_the_peer(race: dict[str, ModuleType]) -> None:
    """Twenty steps by hand: tunesmith's second ten are 2 % off, those of the peer in its type 3 %."""
    gates, page = race["gates"], race["course_page"]
    exact = [4.0] * 10 + [2.0] * 10
    ours, peer = exact[:10] + [2.04] * 10, exact[:10] + [1.94] * 10
    band = gates.rounding([peer], exact)
    first = {"first_loss": {"green": True}, "gradient": {"green": True}}
    sides = {
        name: {
            "losses": losses,
            "gates": {**first, "course": gates.course(losses, exact, band=0.01 if name == "tunesmith-fp32" else band)},
        }
        for name, losses in {"tunesmith": ours, "tunesmith-fp32": exact, "hf-bf16": peer, "hf": exact}.items()
    }
    row = {"steps": 20, "rows_a_step": 4, "tokens_a_step": 321, "sides": sides}
    tree = {"a work": {"Some CPU, avx2, 2 cores": row}}
    (line,) = page.table(tree).splitlines()[2:]
    told = "a work | Some, avx2 | 20 x 4 rows, 321 tokens each | 4.000, 2.000"
    assert line == f"| {told} | 2 % | 3 % | below 0.001 % | 6.4 %, 1 % | green |"
    sides["tunesmith"]["gates"]["course"] = gates.course(ours, exact, band=0.01)
    assert "red: tunesmith |" in page.table(tree)
    drawn = page.picture(tree)
    assert drawn.count("<polyline") == 3
    assert 'points="44.0,56.0' in drawn  # the first loss is the highest: at the top of the field
    sides["hf"] = {"refused": "no", "gates": {}}
    assert page.table(tree).count("\n| ") == 0


@pytest.mark.slow
def test_tunesmith_learns_what_the_reference_learns(race: dict[str, ModuleType], tmp_path: Path) -> None:
    works = race["works"]
    folder = tmp_path / "job"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(works, "bring", lambda name, into: save(into))
        work = works.Work("tiny", "rows.jsonl", 4, 2, {"kind": "lora", "rank": 2})
        job = works.write(work, write_chats(tmp_path / "rows.jsonl").parent, folder)
    assert [len(step) for step in job.steps] == [4, 4]
    sides: dict[str, tuple[str, ...]] = {"reference": (), "tunesmith": (json.dumps({"dtype": "float32"}),)}
    for name, more in sides.items():
        (tmp_path / name).mkdir()
        command = [sys.executable, str(RACE / f"side_{name}.py"), str(folder), str(tmp_path / name), *more]
        subprocess.run(command, check=True, capture_output=True)
    gates = race["gates"]
    told = [json.loads((tmp_path / name / "result.json").read_text()) for name in sides]
    assert gates.first_loss(told[1]["losses"][0], told[0]["losses"][0], "float32")["green"]
    found = gates.cosines(gates.slopes(tmp_path / "tunesmith"), gates.slopes(tmp_path / "reference"), "float32")
    assert found["green"], found
    assert found["weights"] == 2 * 7 * 2
    assert len(told[1]["step_seconds"]) == 1


def test_the_page_names_the_versions_that_tunesmith_ran_with(race: dict[str, ModuleType]) -> None:
    ours, theirs = {"tunesmith": "1", "torch": "2.15"}, {"torch": "2.11", "llamafactory": "0.9"}
    sides = {"tunesmith": {"versions": ours}, "llamafactory": {"versions": theirs}, "trl": {"refused": "no"}}
    tree = {"work": {"a machine": {"date": "2026-11-28", "ratios": {"speed": 2.0}, "sides": sides}}}
    assert race["page"].machines(tree) == "a machine, 2026-11-28, torch 2.15, llamafactory 0.9"
