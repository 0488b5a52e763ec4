"""Whether a model is nothing but the weights that its architecture has places for."""

from __future__ import annotations

from tunesmith.errors import Fault
from tunesmith.weights.facts import BaseFacts


def faults(facts: BaseFacts) -> list[Fault]:
    """Why a model that is more than its weights cannot be written as a plain one."""
    if not facts.additions:
        return []
    what = f"the model has a part ({facts.additions}) beside its own weights, and these files have no place for it"
    return [Fault("export/additions", what, fix="export to web, whose graph takes it in", file=facts.name)]
