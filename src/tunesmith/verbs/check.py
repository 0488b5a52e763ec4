from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith import __version__, files, rooms, say
from tunesmith.artifact import Export, Run, Variant, read_manifest
from tunesmith.checks._battery import battery
from tunesmith.checks._contract import Case, Finding, Look
from tunesmith.checks._remember import Remembered
from tunesmith.errors import ArtifactError, CannotTell, Fault, TunesmithError
from tunesmith.runtimes._contract import Keeper
from tunesmith.runtimes.llama_cpp import N_CONTEXT
from tunesmith.text.example import Ask
from tunesmith.text.template import Text
from tunesmith.verbs._held_out import held_out_asks
from tunesmith.verbs._subject import Subject, subject_of

FILE = "checks.json"
MAX_TOKENS = 64  # an answer in the checks is cut here
FROM_DATA = 3  # held-out prompts that join the built-in ones


@dataclass(frozen=True)
class Checked:
    """The parity table.

    `ok` when no check said no; what could not be told is named with the way to get what is missing. `kept` when nothing
    had changed since an earlier call, so that nothing was asked again.
    """

    ok: bool
    findings: tuple[Finding, ...]
    kept: bool = False

    def as_json(self) -> dict[str, Any]:
        """The same for programs; keys as `docs/json.md` promises."""
        return {"ok": self.ok, "findings": [finding.as_json() for finding in self.findings]}


def check(
    what: str | Path | Run,
    *,
    runtimes: Sequence[str] | None = None,
    base: str | None = None,
    into: Path | None = None,
) -> Checked:
    """Whether every runtime answers as the model does in torch; `checks.json` is written beside the exports.

    What an earlier call found is kept where nothing has changed and no check said no. `checks.json` also keeps what was
    found in runtimes that are not asked this time, as long as their files are the same.

    Args:
        what: a run, a Hugging Face model folder, or a PEFT adapter folder, that `export` was called on before.
        runtimes: only these; all that belong to the exports when left out.
        base: the model an adapter was trained on, where it does not say so itself.
        into: the folder given to `export`.

    Raises:
        ArtifactError: `check/nothing-exported`, when there is nothing to check; `check/nothing-to-check`, when none of
            `runtimes` belongs to an export.
    """
    subject = subject_of(what, base=base, into=into)
    if not subject.exports:
        fix = f"tunesmith export {subject.typed} --to gguf,ollama,web"
        raise ArtifactError(
            Fault("check/nothing-exported", "there are no exports here", fix=fix, file=str(subject.folder))
        )
    for name in runtimes or ():
        rooms.find("runtimes", name)
    every = list(jobs_of(subject))
    asked = [job for job in every if runtimes is None or job.runtime.kind in runtimes]
    if not asked:
        raise ArtifactError(_nothing_to_check(subject, every, runtimes or ()))
    before = _Table.read(subject.folder)
    again = [job for job in asked if not before.holds(job)]
    found = before.of([job for job in every if job not in again and before.made_of(job)])
    if again:
        found = found.with_(again, tuple(_look(subject, again))).of(every)
        found.write(subject.folder)
    findings = found.of(asked).findings
    return Checked(_ok(findings), findings, kept=not again)


def _ok(findings: Sequence[Finding]) -> bool:
    return all(one.verdict != "no" for one in findings)


def _nothing_to_check(subject: Subject, every: Sequence[Job], asked: Sequence[str]) -> Fault:
    can = sorted({job.runtime.kind for job in every})
    what = f"{', '.join(asked)} runs none of the exports here ({', '.join(subject.exports)})"
    fix = f"ask {', '.join(can)}, or export for it first: tunesmith show {asked[0]}"
    return Fault("check/nothing-to-check", what, fix=fix, file=str(subject.folder))


@dataclass(frozen=True)
class Job:
    """A file of an export, in a runtime that can run it."""

    export: Export
    variant: Variant
    runtime: Any

    @property
    def row(self) -> str:
        """Its row in the table."""
        return f"{self.runtime.kind} {self.export.kind} {self.variant.name}"

    @property
    def files(self) -> str:
        """What its files are."""
        manifest = read_manifest(self.export.folder)
        return manifest.identity if manifest else ""

    @property
    def state(self) -> str:
        """What decides its answers beside the files: the runtime as it is now, and our own version."""
        found = self.runtime.present_for(self.export) if isinstance(self.runtime, Keeper) else self.runtime.present()
        return files.sha256_of([__version__, found.version, found.where, found.holds])


def jobs_of(subject: Subject) -> Iterator[Job]:
    """Each file of each export in each of its runtimes."""
    for kind, export in subject.exports.items():
        for name in rooms.find("exports", kind).runtimes:
            runtime = rooms.find("runtimes", name)()
            for variant in export.variants.values():
                yield Job(export, variant, runtime)


@dataclass(frozen=True)
class _Table:
    """All that was found, and by row of what files and in what state of the runtime."""

    findings: tuple[Finding, ...] = ()
    keys: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> _Table:
        """The table of earlier calls; empty when there is none."""
        try:
            tree = json.loads((folder / FILE).read_text(encoding="utf-8"))
            keys = {str(row): (str(made_of), str(state)) for row, (made_of, state) in tree["keys"].items()}
            return cls(tuple(Finding(**one) for one in tree["findings"]), keys)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    def write(self, folder: Path) -> None:
        """For programs, and for the next call."""
        files.write_json(folder / FILE, {**Checked(_ok(self.findings), self.findings).as_json(), "keys": self.keys})

    def made_of(self, job: Job) -> bool:
        """Whether it has a row of the very same files."""
        return self.keys.get(job.row, ("", ""))[0] == job.files

    def holds(self, job: Job) -> bool:
        """Whether nothing has changed since, and no check said no."""
        # What could not be told for want of a runtime is told once that has come: its version is part of the state.
        return self.keys.get(job.row) == (job.files, job.state) and _ok(self.of([job]).findings)

    def of(self, jobs: Sequence[Job]) -> _Table:
        """These rows, in this order."""
        rows = [job.row for job in jobs if job.row in self.keys]
        return _Table(
            tuple(one for row in rows for one in self.findings if _row(one) == row),
            {row: self.keys[row] for row in rows},
        )

    def with_(self, jobs: Sequence[Job], found: tuple[Finding, ...]) -> _Table:
        """With new rows; the runtimes are in the state that the checks left them in."""
        keys = {**self.keys, **{job.row: (job.files, job.state) for job in jobs}}
        return _Table((*self.findings, *found), keys)


def _row(finding: Finding) -> str:
    return f"{finding.runtime} {finding.export} {finding.variant}"


def _look(subject: Subject, jobs: Sequence[Job]) -> Iterator[Finding]:
    from tunesmith.runtimes.torch import open_folder

    text = Text.read(subject.model.folder)
    asks = _asks(subject, text)
    n_layers = subject.facts.n_layers
    with open_folder(subject.model.folder, text) as torch, say.progress("check", len(jobs), "files") as bar:
        reference = Remembered(torch)
        for job in jobs:
            yield from _look_at(job, text, reference, asks, n_layers)
            bar.advance(1, f"{job.runtime.kind} {job.variant.name}")


def _look_at(job: Job, text: Text, reference: Any, asks: Sequence[Ask], n_layers: int) -> Iterator[Finding]:
    """Every check of one file in one runtime; what goes wrong in the runtime is a finding, not an end."""
    checks = rooms.names("checks")
    try:
        with job.runtime.open(job.export, job.variant.name, text) as opened:
            case = Case(
                text, reference, Remembered(opened), job.runtime.takes_ids, job.variant, n_layers, asks, MAX_TOKENS
            )
            for name in checks:
                yield _finding(job, name, _one(name, case))
    except CannotTell as missing:
        for name in checks:
            yield _finding(job, name, Look("cannot_tell", None, None, missing.why))
    except TunesmithError as error:
        yield _finding(job, "loads", Look("no", None, None, error.faults[0].what))


def _one(name: str, case: Case) -> Look:
    try:
        return rooms.find("checks", name)().look(case)  # type: ignore[no-any-return]
    except CannotTell as missing:
        return Look("cannot_tell", None, None, missing.why)
    except TunesmithError as error:
        return Look("no", None, None, error.faults[0].what)


def _finding(job: Job, name: str, look: Look) -> Finding:
    return Finding(
        name, job.export.kind, job.variant.name, job.runtime.kind, look.verdict, look.measured, look.bound, look.why
    )


def _asks(subject: Subject, text: Text) -> list[Ask]:
    """A few prompts of the run's own data, where it is still there, and the built-in ones."""
    own: list[Ask] = []
    if subject.run is not None:
        room = min(N_CONTEXT, subject.facts.context) - MAX_TOKENS
        own = held_out_asks(subject.run, FROM_DATA, lambda ask: len(text.prompt(ask).ids) <= room)
    return [*own, *battery(text, subject.model.raw_text)]


def table(findings: Sequence[Finding]) -> Mapping[tuple[str, str, str], Mapping[str, Finding]]:
    """The findings by (runtime, export, variant), then by check: the rows and columns of the parity table."""
    rows: dict[tuple[str, str, str], dict[str, Finding]] = {}
    for one in findings:
        rows.setdefault((one.runtime, one.export, one.variant), {})[one.check] = one
    return rows
