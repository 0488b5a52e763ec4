"""tunesmith and its peers over the same rows: `python benchmarks/race --work chat-gsm8k-lora --python trl=PYTHON`.

Each side runs in a process of its own, in turn, for some rounds. Every side learns the same rows in the same steps from
the same start values; what it learns is held against a reference in float32 before its speed counts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import courses
import page
import report
from gates import cosines, first_loss, slopes
from job import Job
from sides import RACED, SIDES, Side
from works import WORKS, Work, write

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def main() -> None:
    asked = words()
    pythons = dict(one.split("=", 1) for one in asked.python)
    if asked.table:
        page.write(report.read(), report.read(courses.RESULTS))
        return
    sides = [SIDES[side] for side in asked.sides or (courses.SIDES if asked.course else RACED)]
    for name in asked.work:
        if asked.course:
            told, job, _ = race(WORKS[name].course(), sides, pythons, asked, rounds=1)
            courses.keep(name, told, job)
        else:
            told, job, folder = race(WORKS[name], sides, pythons, asked, asked.rounds)
            report.keep(name, told, job, folder)


def words() -> argparse.Namespace:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--work", nargs="+", default=["chat-gsm8k-lora"], choices=list(WORKS))
    told.add_argument("--sides", nargs="+", choices=list(SIDES), help="all that are raced; of a course its own five")
    told.add_argument("--python", nargs="*", default=[], metavar="NAME=PATH", help="an environment of a peer's own")
    told.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    told.add_argument("--into", type=Path, default=Path("runs/race"))
    told.add_argument("--rounds", type=int, default=3)
    told.add_argument("--steps", type=int, help="steps of each run; each work has its own")
    told.add_argument(
        "--course",
        action="store_true",
        help="judge the losses of 100 steps in place of the speed, once",
    )
    told.add_argument("--table", action="store_true", help="write docs/speed.md's table and plot from the results")
    asked = told.parse_args()
    missing = sorted({WORKS[one].data for one in asked.work if not (asked.data / WORKS[one].data).is_file()})
    if missing and not asked.table:
        told.error(f"not in {asked.data}: {', '.join(missing)}; name the folder of the data with --data")
    return asked


def race(
    work: Work, sides: list[Side], pythons: dict[str, str], asked: argparse.Namespace, rounds: int
) -> tuple[dict[str, Any], Job, Path]:
    """What each side was told to be and told itself, the job that it had, and where it lies."""
    folder = asked.into.resolve() / work.name
    job = write(work, asked.data, folder, asked.steps)
    reference = run(Side("reference", "side_reference.py"), folder, 0, pythons)
    if "refused" in reference:
        raise SystemExit(f"{work.name}: there is no reference to hold the sides against: {reference['refused']}")
    by_side: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
    for number in range(1, rounds + 1):
        for side in sides:
            if any("refused" in one for one in by_side[side.name]):
                continue
            told = run(with_room(side, work), folder, number, pythons)
            by_side[side.name].append(told)
            print(f"{work.name} round {number} {side.name}: {report.brief(told, job.of(side.name))}", flush=True)
    found = {side.name: {"about": side.about, "rounds": by_side[side.name]} for side in sides}
    for name, one in found.items():
        one["gates"] = gates(folder, name, one["rounds"], reference, by_side)
    return found, job, folder


def with_room(side: Side, work: Work) -> Side:
    """A peer takes as many rows at once as the work says that its memory bears."""
    if side.script == "side_tunesmith.py":
        return side
    at_once = min(work.peers_at_once, work.rows_per_step)
    return Side(side.name, side.script, {"rows_at_once": at_once, **side.options}, side.python, side.about)


def run(side: Side, folder: Path, number: int, pythons: dict[str, str]) -> dict[str, Any]:
    """A side's result with the peak memory of its process; what it says where it does not come to an end."""
    result = folder / "results" / f"{side.name}-{number}"
    shutil.rmtree(result, ignore_errors=True)
    result.mkdir(parents=True)
    python = pythons.get(side.python, sys.executable)
    command = [python, str(HERE / side.script), str(folder), str(result), json.dumps(dict(side.options))]
    env = {**os.environ, "RACE_BEGAN": str(time.time()), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    with (result / "log").open("w") as log:
        child = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
    if status:
        return {"refused": report.last_words(status, (result / "log").read_text(errors="replace"))}
    told: dict[str, Any] = json.loads((result / "result.json").read_text(encoding="utf-8"))
    return {**told, "peak_bytes": usage.ru_maxrss * 1024}


def gates(
    folder: Path,
    name: str,
    rounds: list[dict[str, Any]],
    reference: dict[str, Any],
    every: dict[str, list[dict[str, Any]]],
) -> dict[str, Any]:
    """Whether what the side learnt is what the reference says, and its course that of a peer in float32."""
    first = rounds[0]
    if "refused" in first:
        return {}
    dtype = "float32" if first.get("dtype") == "float32" or name in courses.FLOAT32 else "bfloat16"
    found = {
        "dtype": dtype,
        "first_loss": first_loss(first["losses"][0], reference["losses"][0], dtype),
        "gradient": cosines(*(slopes(folder / "results" / one) for one in (f"{name}-1", "reference-0")), dtype),
    }
    losses = {side: told[0]["losses"] for side, told in every.items() if "losses" in told[0]}
    judged = courses.judged(first["losses"], dtype, losses)
    return found | ({"course": judged} if judged else {})


if __name__ == "__main__":
    main()
