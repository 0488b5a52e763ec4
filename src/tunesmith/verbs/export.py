from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from tunesmith import files, rooms, say
from tunesmith.artifact import Export, Manifest, Run, read_manifest, seal
from tunesmith.errors import ExportError, Fault, PlanError
from tunesmith.exports._contract import Dependent, Placed, Staged
from tunesmith.machine import Machine
from tunesmith.recipe import Part
from tunesmith.verbs._subject import Subject, subject_of
from tunesmith.weights.facts import BaseFacts

State = Literal["done", "kept"]


@dataclass(frozen=True)
class Made:
    """An export, whether it was made now or kept, and how long it was waited for."""

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
        to: names of exports, or exports with their options. A name has the options that the run's recipe gives it; all
            that the recipe names are made when this is left out.
        into: where `exports/` goes; a run's own folder when left out, else `runs/NAME`.
        base: the model an adapter was trained on, where it does not say so itself.

    Returns:
        The exports by name, those that they need included. One that is done already and would be the same is kept.

    Raises:
        PlanError: every reason why it cannot be done, before anything is written or merged.
        ArtifactError: `artifact/other-source`, when `into` holds what belongs to something else.
        ExportError: what the tool behind an export said.
    """
    subject = subject_of(what, base=base, into=into)
    return {kind: one.export for kind, one in make(subject, to).items()}


def make(subject: Subject, to: Sequence[str | Part]) -> Mapping[str, Made]:
    """Every export that is asked for, and what they need, in the order in which they can be made."""
    own = {one.kind: one for one in subject.run.recipe.export} if subject.run is not None else {}
    to = to or tuple(own.values())
    if not to:
        fix = "name some: --to gguf,ollama,web"
        raise PlanError(Fault("export/nothing-asked", "no form is named to export to", fix=fix))
    _or_refuse(wanted(to, own), subject, subject.outline)
    subject.claim()
    exporters = wanted(to, own, _standing(subject))
    if subject.base is not None:
        _or_refuse(exporters, subject, subject.facts)
    with files.locked(subject.folder), ExitStack() as under_way:
        return _make_all(subject, exporters, under_way)


def _make_all(subject: Subject, exporters: Sequence[Any], under_way: ExitStack) -> dict[str, Made]:
    """All of them; where one fails, those that do not need it are made all the same, and the faults told at the end."""
    begun: dict[str, _Making] = {}
    made: dict[str, Made] = {}
    faults: list[Fault] = []
    staged = [one for one in exporters if isinstance(one, Staged)]
    for exporter in sorted(staged, key=lambda one: one.apart):  # as long as no process has a core, all are used
        with _told_later(faults):
            begun[exporter.kind] = _Making(subject, exporter, {}, under_way)
    under_way.enter_context(_cores_left_to(sum(one.is_process for one in begun.values())))
    for exporter in _in_turn(exporters):
        given_up = isinstance(exporter, Staged) and exporter.kind not in begun
        if given_up or not made.keys() >= set(exporter.needs):
            continue
        needed = {kind: made[kind].export for kind in exporter.needs}
        with _told_later(faults):
            making = begun.get(exporter.kind) or _Making(subject, exporter, needed, under_way)
            made[exporter.kind] = making.made()
    if faults:
        raise ExportError(faults)
    return {one.kind: made[one.kind] for one in exporters}


@contextmanager
def _told_later(faults: list[Fault]) -> Iterator[None]:
    try:
        yield
    except ExportError as error:
        faults += error.faults


@contextmanager
def _cores_left_to(n_processes: int) -> Iterator[None]:
    """Torch does without as many threads: one that waits for a core holds up all others, which wait at full speed."""
    if not n_processes:
        yield
        return
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(max(1, n_threads - n_processes))
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _in_turn(exporters: Sequence[Any]) -> list[Any]:
    """What a process of its own makes, and what needs that, comes last: the others are made while it works."""
    late: set[str] = set()
    for one in exporters:
        if _is_apart(one) or late & set(one.needs):
            late.add(one.kind)
    return sorted(exporters, key=lambda one: one.kind in late)


def _is_apart(exporter: Any) -> bool:
    return isinstance(exporter, Staged) and exporter.apart


def _or_refuse(exporters: Sequence[Any], subject: Subject, facts: BaseFacts) -> None:
    faults = refusals(exporters, facts, Machine.look(subject.folder))
    if faults:
        raise PlanError(faults)


def _standing(subject: Subject) -> dict[str, Part]:
    """The exports that are done and are of this model, with the options they were made with."""
    found: dict[str, Part] = {}
    for kind, export in Run(subject.folder).exports.items():
        manifest = read_manifest(export.folder)
        if manifest is None or not subject.is_of_this(export):
            continue
        with suppress(ValidationError):  # options of another version
            found[kind] = rooms.find("exports", kind).model_validate(manifest.options)
    return found


def wanted(
    to: Sequence[str | Part], own: Mapping[str, Part] | None = None, standing: Mapping[str, Part] | None = None
) -> list[Any]:
    """The exporters of these names, and those that they need, each once and after what it needs.

    Args:
        to: names, or exporters with their options.
        own: the recipe's options of those that are named or needed without any.
        standing: the options of those that are there, which are kept where others need them.

    Raises:
        RecipeError: `recipe/unknown-member`.
    """
    ordered: dict[str, Any] = {}

    def member(name: str) -> Any:
        return (own or {}).get(name) or rooms.find("exports", name)()

    asked = [one if isinstance(one, Part) else member(one) for one in to]
    options = {**(standing or {}), **(own or {}), **{one.kind: one for one in asked}}

    def place(one: Any) -> None:
        for need in one.needs:
            place(options.get(need) or member(need))
        ordered.setdefault(one.kind, one)

    for one in asked:
        place(one)
    return list(ordered.values())


def refusals(exporters: Sequence[Any], facts: BaseFacts, machine: Machine) -> list[Fault]:
    """Why these cannot be made of this model on this machine; nothing is loaded."""
    faults = [fault for one in exporters for fault in one.refuse(facts, machine)]
    by_kind = {one.kind: one for one in exporters}
    faults += [fault for one in exporters if isinstance(one, Dependent) for fault in one.refuse_beside(by_kind)]
    if faults:
        return faults
    needed = sum(one.disk_bytes(facts) for one in exporters)
    if needed > machine.free_disk_bytes:
        what = f"the exports need {needed / 1e9:.1f} GB and {machine.free_disk_bytes / 1e9:.1f} GB are free"
        faults.append(
            Fault("export/disk-full", what, fix="free space, export fewer types, or use --into on another disk")
        )
    return faults


class _Making:
    """An export that is being made: its first part now where it is staged, the rest when it is asked for."""

    def __init__(self, subject: Subject, exporter: Any, needed: Mapping[str, Export], under_way: ExitStack) -> None:
        self.exporter, self.manifest = exporter, _manifest(subject, exporter, needed)
        self.folder = Run(subject.folder).export_folder(exporter.kind)
        self.seconds = 0.0
        done, kept = read_manifest(self.folder), Export.open(self.folder)
        self.kept = kept if done is not None and done.identity == self.manifest.identity else None
        if self.kept is not None:
            return
        say.note(f"export {exporter.kind}")
        with self._counted():
            self.open = under_way.enter_context(ExitStack())
            self.beside = self.open.enter_context(files.whole_folder(self.folder))
            self.write: Callable[[], Export] = partial(exporter.write, subject.model, needed, self.beside)
            if isinstance(exporter, Staged):
                self.write = self.open.enter_context(exporter.begun(subject.model, self.beside))

    @property
    def is_process(self) -> bool:
        """Whether a process of its own is at work on it."""
        return self.kept is None and _is_apart(self.exporter)

    def made(self) -> Made:
        """The export in its place; its seconds are those that it was waited for."""
        if self.kept is not None:
            with self._counted():
                there = self.exporter.put_again(self.kept) if isinstance(self.exporter, Placed) else self.kept
            return Made(there, "kept", self.seconds)
        with self._counted():
            export = self.write()
            seal(self.beside, replace(self.manifest, about=export.about_tree()))
            self.open.close()
        opened = Export.open(self.folder)
        if opened is None:
            raise AssertionError(f"{self.folder} was sealed and cannot be opened")
        return Made(opened, "done", self.seconds)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds += time.monotonic() - began


def _manifest(subject: Subject, exporter: Any, needed: Mapping[str, Export]) -> Manifest:
    parents = {"model": subject.model.identity}
    for kind, export in needed.items():
        parent = read_manifest(export.folder)
        parents[kind] = parent.identity if parent else ""
    return Manifest(exporter.kind, parents, exporter.model_dump(mode="json"))
