"""Results as JSON, as a table and as a picture: ratios of what was measured in one run."""

from __future__ import annotations

import json
import os
import signal
import statistics
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from job import Job

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "benchmarks"))

import machine  # noqa: E402 - what all benchmarks share lies a folder above

RESULTS = ROOT / "benchmarks" / "results" / "race.json"


def last_words(status: int, log: str) -> list[str]:
    """What a process that did not come to its end said last, and what ended it if it was not itself."""
    code = os.waitstatus_to_exitcode(status)
    by_whom = [f"ended by {signal.Signals(-code).name}"] if code < 0 else []
    if code == -signal.SIGKILL:
        by_whom = ["ended by SIGKILL, which is what a system does that has no memory left"]
    return [*log.strip().splitlines()[-1:], *by_whom]


def brief(told: Mapping[str, Any], job: Job) -> str:
    """A line while the race goes on."""
    if "refused" in told:
        return f"refused: {told['refused']}"
    first, last = told["losses"][0], told["losses"][-1]
    return (
        f"{speed(told, job):.0f} learnt tokens/s, {told['peak_bytes'] / 1e9:.1f} GB, losses {first:.4f} ... {last:.4f}"
    )


def speed(told: Mapping[str, Any], job: Job) -> float:
    """Learnt tokens a second over all steps but the first, which also warms up."""
    return sum(job.supervised(step) for step in job.steps[1:]) / sum(told["step_seconds"])


def figures(rounds: Sequence[Mapping[str, Any]], job: Job) -> dict[str, Any]:
    """Medians over the rounds."""
    seconds = sorted(one for told in rounds for one in told["step_seconds"])
    speeds = [speed(told, job) for told in rounds]
    rows = [sum(len(step) for step in job.steps[1:]) / sum(told["step_seconds"]) for told in rounds]
    return {
        "learnt_tokens_per_second": statistics.median(speeds),
        "speed_by_round": speeds,
        "rows_per_second": statistics.median(rows),
        "tokens_per_second": statistics.median(
            sum(job.tokens(step) for step in job.steps[1:]) / sum(told["step_seconds"]) for told in rounds
        ),
        "padded_tokens_per_second": statistics.median(
            sum(job.padded(step) for step in job.steps[1:]) / sum(told["step_seconds"]) for told in rounds
        ),
        "median_step_seconds": statistics.median(seconds),
        "p95_step_seconds": seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))],
        "steps_seconds": statistics.median(sum(told["step_seconds"]) for told in rounds),
        "first_step_seconds": statistics.median(told["first_step_seconds"] for told in rounds),
        "wall_seconds": statistics.median(told["first_step_seconds"] + sum(told["step_seconds"]) for told in rounds),
        "peak_bytes": max(told["peak_bytes"] for told in rounds),
        **({"held_out_loss": rounds[0]["held_out"][-1]} if rounds[0].get("held_out") else {}),
    }


def keep(name: str, told: Mapping[str, Any], job: Job, folder: Path) -> None:
    """Put a work's results with the others, beside the machine that they are of."""
    sides: dict[str, Any] = {}
    for side, one in told.items():
        rounds = one["rounds"]
        if not rounds or "refused" in rounds[0]:
            sides[side] = {"about": one["about"], "refused": rounds[0]["refused"] if rounds else "not run"}
            continue
        kept = [{k: v for k, v in each.items() if k not in ("settings", "versions")} for each in rounds]
        more = {key: rounds[0].get(key) for key in ("settings", "versions", "attention") if rounds[0].get(key)}
        told_of = {"about": one["about"], **figures(rounds, job.of(side)), "gates": one["gates"]}
        sides[side] = {**told_of, **more, "rounds": kept}
    measured, product, peers = machine.processor(), products(), job.of("peers")
    add_use(sides, job, folder, product)
    row = {
        "date": date.today().isoformat(),
        "machine": measured,
        "products_gflops": product,
        "rows": len(job.rows),
        "steps": len(job.steps),
        "tokens_a_step": round(sum(job.tokens(step) for step in job.steps) / len(job.steps)),
        "learnt_tokens_a_step": round(sum(job.supervised(step) for step in job.steps) / len(job.steps)),
        "method": {key: value for key, value in job.method.items() if key != "moves"},
        **({"peers": {"steps": len(peers.steps), "learning_rate": peers.learning_rate}} if job.peers else {}),
        "learning_rate": job.learning_rate,
        "sides": sides,
        "ratios": ratios(sides),
    }
    put(RESULTS, name, row)
    print(name, json.dumps(row["ratios"], indent=1))


def ratios(sides: Mapping[str, Any]) -> dict[str, Any]:
    """tunesmith over each peer, and over the best of them: speed by round and its median, and memory."""
    ours = sides.get("tunesmith", {})
    peers = {name: one for name, one in sides.items() if not name.startswith("tunesmith") and "refused" not in one}
    if "rounds" not in ours or not peers:
        return {}
    told = {}
    for name, one in peers.items():
        each = [mine / theirs for mine, theirs in zip(ours["speed_by_round"], one["speed_by_round"], strict=False)]
        memory = one["peak_bytes"] / ours["peak_bytes"]
        told[name] = {
            "speed": round(statistics.median(each), 2),
            "rounds": [round(r, 2) for r in each],
            "memory": round(memory, 2),
        }
    best = max(peers, key=lambda name: peers[name]["learnt_tokens_per_second"])
    return {"best_peer": best, "speed": told[best]["speed"], "memory": told[best]["memory"], "each": told}


def add_use(sides: Mapping[str, Any], job: Job, folder: Path, product: Mapping[str, float]) -> None:
    """The share of the measured product that each side makes use of, counting only what has to be computed."""
    from tunesmith.recipe import Recipe
    from tunesmith.verbs.plan import plan
    from tunesmith.weights import estimate

    planned = plan(Recipe.model_validate(job.tree), into=folder / "plan", probe=False)
    ready = planned.ready
    assert ready.settings is not None
    longest = max(len(ids) for ids, _ in job.rows)
    load = estimate.Load.of(ready.method, ready.facts, ready.settings.dtype, longest)
    for name, one in sides.items():
        if "steps_seconds" in one:
            steps = job.of(name).steps[1:]
            tokens, rows = sum(job.tokens(step) for step in steps), sum(len(step) for step in steps)
            learnt, mean = sum(job.supervised(step) for step in steps), tokens / rows
            work = estimate.flops(ready.facts, load, tokens=tokens, learnt=learnt, mean_length=mean, recompute=False)
            one["gflops_needed_per_second"] = round(work / one["steps_seconds"] / 1e9, 1)
            one["share_of_product"] = round(work / one["steps_seconds"] / 1e9 / max(product.values()), 3)


def products() -> dict[str, float]:
    """The matrix product of this machine by route, GFLOP/s, measured now."""
    from tunesmith.machine import _measure

    return dict(_measure("cpu").gflops)


def put(results: Path, name: str, row: Mapping[str, Any]) -> None:
    """A work's row beside the others of a file of results, in place of the one of the same machine."""
    tree = read(results)
    tree.setdefault(name, {})[row["machine"]] = row
    results.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


def read(results: Path = RESULTS) -> dict[str, Any]:
    """By work and machine; empty before the first."""
    tree: dict[str, Any] = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else {}
    return tree
