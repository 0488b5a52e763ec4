"""The losses of a hundred steps, side by side: whether each side learns what a peer in float32 does.

Speed is not counted here, so that a course may be made of fewer rows a step than the race, and beside other work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

import report
from job import Job

SIDES = ("tunesmith", "tunesmith-fp32", "hf-bf16", "hf")
"""Both types of both: what only rounding does shows beside what it does to a peer, and without it."""
RESULTS = report.ROOT / "benchmarks" / "results" / "courses.json"


def keep(name: str, told: Mapping[str, Any], job: Job) -> None:
    """Put a work's course with the others, beside the machine that it is of."""
    measured = report.machine.processor()
    row = {
        "date": date.today().isoformat(),
        "machine": measured,
        "steps": len(job.steps),
        "rows_a_step": job.rows_per_step,
        "tokens_a_step": round(sum(job.tokens(step) for step in job.steps) / len(job.steps)),
        "method": {key: value for key, value in job.method.items() if key != "moves"},
        "learning_rate": job.learning_rate,
        "sides": {side: _side(one) for side, one in told.items()},
    }
    tree = read()
    tree.setdefault(name, {})[measured] = row
    RESULTS.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")
    print(name, json.dumps({side: one["gates"].get("course") for side, one in row["sides"].items()}, indent=1))


def _side(one: Mapping[str, Any]) -> dict[str, Any]:
    first = one["rounds"][0]
    if "refused" in first:
        return {"about": one["about"], "refused": first["refused"], "gates": {}}
    told = {"about": one["about"], "gates": one["gates"], "versions": first["versions"]}
    return told | {"losses": [round(loss, 6) for loss in first["losses"]]}


def read() -> dict[str, Any]:
    """By work and machine; empty before the first."""
    tree: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    return tree
