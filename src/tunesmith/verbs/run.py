from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith.artifact import Export, Run
from tunesmith.recipe import Recipe
from tunesmith.verbs._proof import Proof
from tunesmith.verbs._subject import subject_of
from tunesmith.verbs.check import Checked, check
from tunesmith.verbs.export import Made, make
from tunesmith.verbs.prove import prove
from tunesmith.verbs.tune import tune


@dataclass(frozen=True)
class Stage:
    """One step of the chain: whether it was done now or kept from an earlier call, and its seconds."""

    stage: str
    state: Literal["done", "kept"]
    seconds: float


@dataclass(frozen=True)
class Ran:
    """The whole chain: the run, its exports, the parity table, and the proof where the recipe asks for one."""

    run: Run
    stages: tuple[Stage, ...]
    exports: Mapping[str, Export]
    checked: Checked | None
    proof: Proof | None = None

    @property
    def ok(self) -> bool:
        """Whether no check said no, and the proof, where there is one, says to ship."""
        return (self.checked is None or self.checked.ok) and (self.proof is None or self.proof.ok)

    def as_json(self) -> dict[str, Any]:
        """The same for programs; keys as `docs/json.md` promises."""
        return {
            "run": str(self.run.folder),
            "stages": [
                {"stage": one.stage, "state": one.state, "seconds": round(one.seconds, 2)} for one in self.stages
            ],
            "exports": exports_as_json(self.exports),
            "checks": self.checked.as_json() if self.checked is not None else None,
            "proof": self.proof.as_json() if self.proof is not None else None,
        }


def exports_as_json(exports: Mapping[str, Export]) -> dict[str, Any]:
    """Exports for programs; keys as `docs/json.md` promises."""
    return {
        kind: {
            "path": str(export.folder),
            "variants": {
                name: {"path": str(one.path), "bytes": one.n_bytes, "label": one.label, **one.about}
                for name, one in export.variants.items()
            },
        }
        for kind, export in exports.items()
    }


def stages_of(made: Mapping[str, Made]) -> tuple[Stage, ...]:
    """Exports as steps of the chain."""
    return tuple(Stage(f"export {kind}", one.state, one.seconds) for kind, one in made.items())


def run(recipe: Recipe | str | Path, *, into: Path | None = None, fresh: bool = False) -> Ran:
    """Data to checked deliveries: plan, tune, export, check, prove. What is done already is not done again.

    A tuning that was broken off goes on where it stopped.

    Args:
        recipe: the recipe, or its file.
        into: the run's folder; `runs/` and the name of the recipe's file when left out.
        fresh: begin anew where an unfinished or another run stands; what stood there is kept beside it.

    Raises:
        PlanError: every reason why it cannot be done, before anything is loaded.
    """
    if not isinstance(recipe, Recipe):
        recipe = Recipe.read(recipe)
    before = time.time()
    clock = time.monotonic()
    tuned = tune(recipe, into=into, resume=True, fresh=fresh)
    is_new = (tuned.folder / "manifest.json").stat().st_mtime >= before
    stages = [Stage("tune", "done" if is_new else "kept", time.monotonic() - clock)]
    made = make(subject_of(tuned), recipe.export) if recipe.export else {}
    stages += stages_of(made)
    checked = None
    if made:
        clock = time.monotonic()
        checked = check(tuned)
        stages.append(Stage("check", "kept" if checked.kept else "done", time.monotonic() - clock))
    proof = None
    if recipe.prove:
        clock = time.monotonic()
        proof = prove(tuned)
        stages.append(Stage("prove", "kept" if proof.kept else "done", time.monotonic() - clock))
    return Ran(tuned, tuple(stages), {kind: one.export for kind, one in made.items()}, checked, proof)
