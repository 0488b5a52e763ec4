from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith import files, rooms, say
from tunesmith.artifact import Export, Manifest, Run, read_manifest, seal
from tunesmith.errors import Fault, PlanError
from tunesmith.machine import Machine
from tunesmith.recipe import Part
from tunesmith.verbs._subject import Subject, subject_of
from tunesmith.weights.facts import BaseFacts

State = Literal["done", "kept"]


@dataclass(frozen=True)
class Made:
    """An export, whether it was made now or kept, and how long that took."""

    export: Export
    state: State
    seconds: float


def export(
    what: str | Path | Run,
    *,
    to: Sequence[str | Part] = (),
    into: Path | None = None,
    base: str | None = None,
) -> Mapping[str, Export]:
    """The model in the forms that its runtimes want.

    Args:
        what: a run, a Hugging Face model folder, or a PEFT adapter folder.
        to: names of exports, or exports with their options; a run's own recipe names them when left out.
        into: where `exports/` goes; a run's own folder when left out, else `runs/NAME`.
        base: the model an adapter was trained on, where it does not say so itself.

    Returns:
        The exports by name, those that they need included. One that is done already and would be the same is kept.

    Raises:
        PlanError: every reason why it cannot be done, before anything is written.
        ExportError: what the tool behind an export said.
    """
    subject = subject_of(what, base=base, into=into)
    return {kind: one.export for kind, one in make(subject, to).items()}


def make(subject: Subject, to: Sequence[str | Part]) -> Mapping[str, Made]:
    """Every export that is asked for, and what they need, in the order in which they can be made."""
    if not to and subject.run is not None:
        to = subject.run.recipe.export
    exporters = wanted(to)
    faults = refusals(exporters, subject.facts, Machine.look(subject.folder))
    if faults:
        raise PlanError(faults)
    made: dict[str, Made] = {}
    with files.locked(subject.folder):
        for exporter in exporters:
            made[exporter.kind] = _make_one(subject, exporter, {kind: one.export for kind, one in made.items()})
    return made


def wanted(to: Sequence[str | Part]) -> list[Any]:
    """The exporters of these names, and those that they need, each once and after what it needs.

    Raises:
        RecipeError: `recipe/unknown-member`.
    """
    ordered: dict[str, Any] = {}
    asked = [one if isinstance(one, Part) else rooms.find("exports", one)() for one in to]
    options = {one.kind: one for one in asked}

    def place(one: Any) -> None:
        for need in one.needs:
            place(options.get(need) or rooms.find("exports", need)())
        ordered.setdefault(one.kind, one)

    for one in asked:
        place(one)
    return list(ordered.values())


def refusals(exporters: Sequence[Any], facts: BaseFacts, machine: Machine) -> list[Fault]:
    """Why these cannot be made of this model on this machine; nothing is loaded."""
    faults = [fault for one in exporters for fault in one.refuse(facts, machine)]
    if faults:
        return faults
    needed = sum(one.disk_bytes(facts) for one in exporters)
    if needed > machine.free_disk_bytes:
        what = f"the exports need {needed / 1e9:.1f} GB and {machine.free_disk_bytes / 1e9:.1f} GB are free"
        faults.append(
            Fault("export/disk-full", what, fix="free space, export fewer types, or use --into on another disk")
        )
    return faults


def _make_one(subject: Subject, exporter: Any, made: Mapping[str, Export]) -> Made:
    began = time.monotonic()
    folder = Run(subject.folder).export_folder(exporter.kind)
    needed = {kind: made[kind] for kind in exporter.needs}
    manifest = _manifest(subject, exporter, needed)
    done, kept = read_manifest(folder), Export.open(folder)
    if done is not None and kept is not None and done.identity == manifest.identity:
        return Made(kept, "kept", time.monotonic() - began)
    say.note(f"export {exporter.kind}")
    with files.whole_folder(folder) as beside:
        export = exporter.write(subject.model, needed, beside)
        seal(beside, Manifest(exporter.kind, manifest.parents, manifest.options, export.about_tree()))
    opened = Export.open(folder)
    if opened is None:
        raise AssertionError(f"{folder} was sealed and cannot be opened")
    return Made(opened, "done", time.monotonic() - began)


def _manifest(subject: Subject, exporter: Any, needed: Mapping[str, Export]) -> Manifest:
    parents = {"model": subject.model.identity}
    for kind, export in needed.items():
        parent = read_manifest(export.folder)
        parents[kind] = parent.identity if parent else ""
    return Manifest(exporter.kind, parents, exporter.model_dump(mode="json"))
