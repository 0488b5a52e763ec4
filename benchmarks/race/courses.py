"""The losses of a hundred steps, side by side: whether each side learns what a peer in float32 does.

Speed is not counted here, so that a course may be made of fewer rows a step than the race, and beside other work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import report
from gates import course, rounding
from job import Job

SIDES = ("tunesmith", "tunesmith-fp32", "hf-bf16", "hf", "hf-one-by-one")
"""Both types of both, and the peer once more, with its sums in another order: it shows what rounding alone does."""
FLOAT32 = ("trl-fp32", "hf", "hf-one-by-one")
"""Peers in float32: a course is held against the first of them that is there."""
RESULTS = report.ROOT / "benchmarks" / "results" / "courses.json"


def judged(found: Sequence[float], dtype: str, losses: Mapping[str, Sequence[float]]) -> dict[str, Any] | None:
    """How far a course is from that of a peer in float32, and how far rounding takes peers of its own type.

    `losses` are the courses of all sides by name. None where no peer in float32 went as many steps.
    """
    exact = next((side for side in FLOAT32 if side in losses), "")
    if not exact or len(losses[exact]) != len(found):
        return None
    others = [side for side in losses if not side.startswith("tunesmith") and side != exact]
    alike = [losses[side] for side in others if (side in FLOAT32) == (dtype == "float32")]
    return course(found, losses[exact], band=rounding(alike, losses[exact]))


def keep(name: str, told: Mapping[str, Any], job: Job) -> None:
    """Put a work's course with the others, beside the machine that it is of."""
    sides = {side: _side(one) for side, one in told.items()}
    row = {
        "date": date.today().isoformat(),
        "machine": report.machine.processor(),
        "steps": len(job.steps),
        "rows_a_step": job.rows_per_step,
        "tokens_a_step": round(sum(job.tokens(step) for step in job.steps) / len(job.steps)),
        "method": {key: value for key, value in job.method.items() if key != "moves"},
        "learning_rate": job.learning_rate,
        "sides": sides,
    }
    report.put(RESULTS, name, row)
    print(name, json.dumps({side: one["gates"].get("course") for side, one in sides.items()}, indent=1))


def _side(one: Mapping[str, Any]) -> dict[str, Any]:
    first = one["rounds"][0]
    if "refused" in first:
        return {"about": one["about"], "refused": first["refused"], "gates": {}}
    told = {"about": one["about"], "gates": one["gates"], "versions": first["versions"]}
    return told | {"losses": [round(loss, 6) for loss in first["losses"]]}
