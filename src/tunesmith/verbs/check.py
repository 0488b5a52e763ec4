from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith import __version__, files, rooms, say
from tunesmith.artifact import Export, Run, Variant, read_manifest
from tunesmith.checks._battery import battery
from tunesmith.checks._contract import Case, Finding, Look
from tunesmith.checks._remember import Remembered
from tunesmith.errors import ArtifactError, CannotTell, Fault, TunesmithError
from tunesmith.text.example import Ask
from tunesmith.text.template import Text
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

    Args:
        what: a run, a Hugging Face model folder, or a PEFT adapter folder, that `export` was called on before.
        runtimes: only these; all that belong to the exports when left out.
        base: the model an adapter was trained on, where it does not say so itself.
        into: the folder given to `export`.

    Raises:
        ArtifactError: `check/nothing-exported`, when there is nothing to check.
    """
    subject = subject_of(what, base=base, into=into)
    if not subject.exports:
        fix = f"tunesmith export {what if not isinstance(what, Run) else what.folder} --to gguf,ollama,web"
        raise ArtifactError(
            Fault("check/nothing-exported", "there are no exports here", fix=fix, file=str(subject.folder))
        )
    for name in runtimes or ():
        rooms.find("runtimes", name)
    jobs = list(_jobs(subject, runtimes))
    key = _key(subject, jobs)
    kept = _kept(subject.folder, key)
    if kept is not None:
        return kept
    findings = tuple(_look(subject, jobs))
    checked = Checked(all(one.verdict != "no" for one in findings), findings)
    files.write_json(subject.folder / FILE, {**checked.as_json(), "key": key})
    return checked


@dataclass(frozen=True)
class _Job:
    export: Export
    variant: Variant
    runtime: Any
    version: str


def _jobs(subject: Subject, runtimes: Sequence[str] | None) -> Iterator[_Job]:
    for kind, export in subject.exports.items():
        for name in rooms.find("exports", kind).runtimes:
            if runtimes is None or name in runtimes:
                runtime = rooms.find("runtimes", name)()
                version = runtime.present().version
                for variant in export.variants.values():
                    yield _Job(export, variant, runtime, version)


def _key(subject: Subject, jobs: Sequence[_Job]) -> str:
    """What decides the table: the files, the runtimes' versions, and our own."""
    made = {job.export.kind: read_manifest(job.export.folder) for job in jobs}
    identities = {kind: manifest.identity for kind, manifest in made.items() if manifest}
    return files.sha256_of([__version__, identities, sorted({(job.runtime.kind, job.version) for job in jobs})])


def _kept(folder: Path, key: str) -> Checked | None:
    """The table of an earlier call, where nothing that decides it has changed and no check said no."""
    try:
        tree = json.loads((folder / FILE).read_text(encoding="utf-8"))
        findings = tuple(Finding(**one) for one in tree["findings"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    # What could not be told for want of a runtime is told once that has come: its version is part of the key.
    return Checked(True, findings, kept=True) if tree.get("key") == key and tree["ok"] else None


def _look(subject: Subject, jobs: Sequence[_Job]) -> Iterator[Finding]:
    from tunesmith.runtimes.torch import open_folder

    text = Text.read(subject.model.folder)
    asks = _asks(subject, text)
    n_layers = subject.facts.n_layers
    with open_folder(subject.model.folder, text) as torch, say.progress("check", len(jobs), "files") as bar:
        reference = Remembered(torch)
        for job in jobs:
            yield from _look_at(job, text, reference, asks, n_layers)
            bar.advance(1, f"{job.runtime.kind} {job.variant.name}")


def _look_at(job: _Job, text: Text, reference: Any, asks: Sequence[Ask], n_layers: int) -> Iterator[Finding]:
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


def _finding(job: _Job, name: str, look: Look) -> Finding:
    return Finding(
        name, job.export.kind, job.variant.name, job.runtime.kind, look.verdict, look.measured, look.bound, look.why
    )


def _asks(subject: Subject, text: Text) -> list[Ask]:
    """A few prompts of the run's own data, where it is still there, and the built-in ones."""
    own = held_out_asks(subject.run, FROM_DATA) if subject.run is not None else []
    return [*own, *battery(text, subject.model.raw_text)]


def held_out_asks(run: Run, n: int) -> list[Ask]:
    """The first `n` prompts of the run's test rows, or of its training rows where it has no test file."""
    from tunesmith.formats._reading import read

    data = run.recipe.data
    train = (data.train,) if isinstance(data.train, str) else data.train
    try:
        examples = read([data.test] if isinstance(data.test, str) else list(train), data.format).examples
    except TunesmithError:
        return []
    asks: list[Ask] = []
    for example in examples[:n]:
        if not example.is_chat:
            asks.append(" ".join(example.text.split()[:8]))
            continue
        last = max(i for i, message in enumerate(example.messages) if message["role"] == "assistant")
        asks.append(example.messages[:last])
    return asks


def table(findings: Sequence[Finding]) -> Mapping[tuple[str, str, str], Mapping[str, Finding]]:
    """The findings by (runtime, export, variant), then by check: the rows and columns of the parity table."""
    rows: dict[tuple[str, str, str], dict[str, Finding]] = {}
    for one in findings:
        rows.setdefault((one.runtime, one.export, one.variant), {})[one.check] = one
    return rows
