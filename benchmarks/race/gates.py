"""When a side's figures count: it began with the loss of the reference, and its first step pointed the same way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FIRST_LOSS = {"float32": 1e-5, "bfloat16": 2e-3}
"""How far the first loss may be from that of the reference in float32, relative."""
COSINE = 0.999
"""Least cosine between a side's first gradient and the reference's: of each weight in float32. In bfloat16, whose
rounding alone turns the smallest gradients further, of the weight in the middle."""
ROUNDED = 0.98
"""Least cosine of any weight in bfloat16."""
BAND = 0.01
"""How far the losses of a stretch of steps may be from those of the reference's course, relative: at least, and else as
far as `rounding` tells."""
SIGMAS = 3.0
"""Times the spread of what rounding does that a stretch may be off: by chance one in four hundred is."""
STRETCH = 10
"""Steps whose mean loss is compared."""


def first_loss(found: float, reference: float, dtype: str) -> dict[str, Any]:
    off = abs(found - reference) / abs(reference)
    return {"off": off, "bound": FIRST_LOSS[dtype], "green": off <= FIRST_LOSS[dtype]}


def cosines(found: Mapping[str, Any], reference: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """The least cosine over the weights, the median, and how many there were; weights without a slope have none."""
    if found.keys() != reference.keys():
        odd = sorted(found.keys() ^ reference.keys())
        return {"green": False, "why": f"{len(odd)} weights have a gradient on one side alone, such as {odd[0]}"}
    each = {}
    for name, one in reference.items():
        ours, theirs = found[name].double().flatten(), one.double().flatten()
        if theirs.norm() > 0:
            each[name] = float(ours @ theirs / (ours.norm() * theirs.norm()).clamp_min(1e-300))
    ranked = sorted(each.values())
    worst, median = min(each, key=lambda name: each[name]), ranked[len(ranked) // 2]
    least = COSINE if dtype == "float32" else ROUNDED
    return {
        "least": ranked[0],
        "least_at": worst,
        "median": median,
        "weights": len(ranked),
        "green": ranked[0] >= least and median >= COSINE,
    }


def rounding(peers: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """How far rounding moves a course, by the gaps of peers of one type to one in float32: three times their spread.

    The largest gap of a peer would be no bound: of two sides that round alike, each is beyond the other half the time.
    """
    return max(BAND, SIGMAS * _spread([gap for one in peers for gap in _gaps(one, reference)]))


def course(found: Sequence[float], reference: Sequence[float], *, band: float = BAND) -> dict[str, Any]:
    """The largest relative gap between the means of stretches of steps, and the spread of all of them."""
    gaps = _gaps(found, reference)
    told = {"largest": max(gaps), "spread": _spread(gaps), "stretches": len(gaps)}
    return {**told, "bound": band, "green": max(gaps) <= band}


def _gaps(found: Sequence[float], reference: Sequence[float]) -> list[float]:
    """Of the means of stretches of steps, relative."""
    means = [_means(losses) for losses in (found, reference)]
    return [abs(one - other) / other for one, other in zip(*means, strict=True)]


def _means(losses: Sequence[float]) -> list[float]:
    size = min(STRETCH, len(losses))
    return [sum(losses[at : at + size]) / size for at in range(0, len(losses) - size + 1, size)]


def _spread(gaps: Sequence[float]) -> float:
    """The root of their mean square; 0 of none."""
    return math.sqrt(sum(gap**2 for gap in gaps) / len(gaps)) if gaps else 0.0


def slopes(folder: Path) -> Mapping[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "slopes.safetensors")
