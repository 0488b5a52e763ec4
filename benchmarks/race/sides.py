"""Who takes part: each with the script that runs it, whose Python does, and the settings that it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Side:
    """`python` names an environment of its own, given with --python NAME=PATH; tunesmith's own stands in for it."""

    name: str
    script: str
    options: Mapping[str, Any] = field(default_factory=dict)
    python: str = "tunesmith"
    about: str = ""


TRL: Mapping[str, Any] = {"trainer": "trl"}
HF: Mapping[str, Any] = {"trainer": "hf"}
QUICK: Mapping[str, Any] = {"gradient_checkpointing": False}
SIDES = {
    side.name: side
    for side in (
        Side("tunesmith", "side_tunesmith.py", about="what its plan chooses"),
        Side("tunesmith-fp32", "side_tunesmith.py", {"dtype": "float32"}, about="the same in float32"),
        Side("trl", "side_trainer.py", TRL, "trl", "as it comes: bf16 autocast, gradient checkpointing"),
        Side("trl-bf16", "side_trainer.py", {**TRL, **QUICK, "bf16": True}, "trl", "no checkpointing, bf16 autocast"),
        Side(
            "trl-bf16-weights",
            "side_trainer.py",
            {**TRL, **QUICK, "bf16": True, "weights": "bfloat16"},
            "trl",
            "no checkpointing, the frozen base in bf16",
        ),
        Side("trl-fp32", "side_trainer.py", {**TRL, **QUICK, "bf16": False}, "trl", "no checkpointing, fp32"),
        Side("hf", "side_trainer.py", HF, "trl", "as it comes: fp32"),
        Side(
            "hf-one-by-one",
            "side_trainer.py",
            {**HF, "rows_at_once": 1},
            "trl",
            "fp32, a row at a time: the same but for rounding",
        ),
        Side("hf-bf16", "side_trainer.py", {**HF, "bf16": True}, "trl", "bf16 autocast"),
        Side(
            "hf-bf16-by-length",
            "side_trainer.py",
            {**HF, "bf16": True, "by_length": True},
            "trl",
            "bf16 autocast, rows of a step that go together are of like length",
        ),
        Side(
            "llamafactory",
            "side_llamafactory.py",
            {"bf16": True},
            "llamafactory",
            "bf16 as its recipes have it, gradient checkpointing",
        ),
        Side(
            "llamafactory-bf16",
            "side_llamafactory.py",
            {"bf16": True, "disable_gradient_checkpointing": True},
            "llamafactory",
            "bf16, no checkpointing",
        ),
    )
}
RACED = tuple(name for name in SIDES if name != "hf-one-by-one")
"""Those whose speed is of interest: the other is there for what its rounding does to a course."""
