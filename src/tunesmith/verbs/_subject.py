"""What a person points `export`, `check` and `chat` at: a run, a Hugging Face model, or a PEFT adapter."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from tunesmith import files
from tunesmith.artifact import Export, Manifest, Model, Run, read_manifest, seal
from tunesmith.errors import ArtifactError, Fault
from tunesmith.sources._find import source_of
from tunesmith.sources.folder import Folder
from tunesmith.sources.hub import Hub
from tunesmith.verbs._held_out import spread_rows
from tunesmith.weights.facts import BaseFacts

STAMP = "source.json"  # in a folder of exports: what they were made of
N_ROWS = 8  # of its own data, for an export that measures what it writes
OURS = ("recipe.yaml", "model", "exports")  # what a folder that is in use holds


@dataclass(frozen=True)
class Subject:
    """What is meant, and the folder in which its exports stand. An adapter is merged when its model is first needed."""

    source: Path
    """The run, the model folder or the adapter folder."""
    folder: Path
    typed: str
    """The words that name it on the command line."""
    run: Run | None = None
    base: str | None = None
    """What an adapter was trained on."""

    @cached_property
    def model(self) -> Model:
        """The model at rest."""
        if self.run is not None:
            return replace(self.run.model, own_rows=partial(spread_rows, self.run, N_ROWS))
        return Model.of(self.source) if self.base is None else _merged(self, self.base)

    @property
    def raw_text(self) -> bool:
        """Whether it goes on with a text instead of answering a chat."""
        return self.run is not None and self.run.recipe.objective.kind == "uft"

    @property
    def facts(self) -> BaseFacts:
        """Its config and tokenizer files."""
        return BaseFacts.read(self.model.folder, self.folder.name)

    @property
    def outline(self) -> BaseFacts:
        """What is known of it before an adapter is merged: what its base says."""
        return self.facts if self.base is None else source_of(self.base).facts(self.base)

    @property
    def exports(self) -> dict[str, Export]:
        """The exports that are done, by kind.

        Raises:
            ArtifactError: `artifact/other-model`, when one was made of another model than this one.
        """
        found = dict(Run(self.folder).exports)
        self._refuse_others(found)
        return found

    def export(self, kind: str) -> Export | None:
        """One of the exports; None when it is not done.

        Raises:
            ArtifactError: as `exports`, for this one alone.
        """
        found = Export.open(Run(self.folder).export_folder(kind))
        self._refuse_others({} if found is None else {kind: found})
        return found

    def is_of_this(self, export: Export) -> bool:
        """Whether an export was made of this very model."""
        manifest = read_manifest(export.folder)
        return manifest is not None and manifest.parents.get("model") == self.model.identity

    def _refuse_others(self, found: dict[str, Export]) -> None:
        others = [kind for kind, export in found.items() if not self.is_of_this(export)]
        if others:
            what = f"made of another model than this one, or of what it was before: {', '.join(others)}"
            fix = f"export again: tunesmith export {self.typed} --to {','.join(others)}"
            raise ArtifactError(Fault("artifact/other-model", what, fix=fix, file=str(self.folder / "exports")))

    def claim(self) -> None:
        """Write down in the folder whose exports stand there.

        Raises:
            ArtifactError: `artifact/other-source`, when they are those of something else.
        """
        if self.run is not None and self.folder.resolve() == self.run.folder.resolve():
            return
        mine = {"source": str(self.source.resolve()), "base": self.base}
        told = _stamp(self.folder)
        holder = told["source"] if told else next((one for one in OURS if (self.folder / one).exists()), None)
        if (self.folder / "recipe.yaml").exists() or holder not in (None, mine["source"]):
            whose = f"the exports of {holder}" if told else f"a {holder} that tunesmith did not make of this"
            what = f"this folder is in use for something else: it holds {whose}"
            fix = "name another folder with --into"
            raise ArtifactError(Fault("artifact/other-source", what, fix=fix, file=str(self.folder)))
        if told != mine:
            files.write_json(self.folder / STAMP, mine)


def subject_of(what: str | Path | Run, *, base: str | None = None, into: Path | None = None) -> Subject:
    """What is meant.

    A run has its exports in its own folder; those of what someone else trained go to `runs/NAME` unless `into` is
    given. That folder may be named too, once something stands in it.

    Raises:
        ArtifactError: `artifact/missing`, `artifact/unfinished`, `artifact/not-a-model`, or an adapter's faults.
        SourceError: a model folder's faults.
    """
    from tunesmith.weights.merge import is_adapter

    folder = what.folder if isinstance(what, Run) else Path(what)
    typed = _typed(folder, base, into)
    if not folder.is_dir():
        fix = "give a run, a Hugging Face model folder, or a PEFT adapter folder"
        raise ArtifactError(Fault("artifact/missing", "there is no such folder", fix=fix, file=str(folder)))
    told = _stamp(folder)
    if told is not None:
        folder, base, into = _source_in(folder, told), base or told["base"], into or folder
    if Run(folder).begun:
        return Subject(folder, into or folder, typed, _finished(Run(folder)))
    home = into or Path("runs") / folder.resolve().name
    if is_adapter(folder):
        return Subject(folder, home, typed, base=_base_of(folder, base))
    if not (folder / "config.json").is_file():
        fix = "give a run, a Hugging Face model folder, or a PEFT adapter folder"
        raise ArtifactError(Fault("artifact/not-a-model", "there is no config.json here", fix=fix, file=str(folder)))
    return Subject(Folder().bring(str(folder)), home, typed)


def _typed(folder: Path, base: str | None, into: Path | None) -> str:
    options = {"--base": base, "--into": into}
    words = [str(folder), *(word for name, value in options.items() if value for word in (name, str(value)))]
    return shlex.join(words)


def _stamp(folder: Path) -> dict[str, Any] | None:
    try:
        told = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        return {"source": str(told["source"]), "base": told["base"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _source_in(folder: Path, told: dict[str, Any]) -> Path:
    source = Path(told["source"])
    if not source.is_dir():
        what = f"the exports here were made of {source}, and that is not there any more"
        fix = "give the folder that it was moved to, and another --into"
        raise ArtifactError(Fault("artifact/source-gone", what, fix=fix, file=str(folder)))
    return source


def _finished(run: Run) -> Run:
    if run.manifest is None:
        fix = f"go on with: tunesmith run {run.folder / 'recipe.yaml'} --into {run.folder}"
        raise ArtifactError(Fault("artifact/unfinished", "this run is not done yet", fix=fix, file=str(run.folder)))
    return run


def _base_of(adapter: Path, base: str | None) -> str:
    """The base that is named, else the adapter's own, at the revision it was trained on."""
    from tunesmith.weights.merge import read_adapter_config

    config = read_adapter_config(adapter)
    if base:
        return base
    named, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not named:
        fix = "name it: --base HUB_ID_OR_FOLDER"
        raise ArtifactError(
            Fault("adapter/no-base", "the adapter does not say what it was trained on", fix=fix, file=str(adapter))
        )
    at_revision = revision and "@" not in named and isinstance(source_of(named), Hub)
    return f"{named}@{revision}" if at_revision else str(named)


def _merged(subject: Subject, base: str) -> Model:
    """`model/` in the subject's folder, unless the same adapter and base were merged there before."""
    from tunesmith.verbs._merge import merge
    from tunesmith.weights.merge import WEIGHTS, read_adapter_config
    from tunesmith.weights.save import words_of

    adapter, into = subject.source, subject.folder / "model"
    base_folder = source_of(base).bring(base)
    words = {path.relative_to(adapter).as_posix(): files.sha256(path) for path in words_of(adapter)}
    parents = {
        "adapter": files.sha256(adapter / WEIGHTS),
        "words": files.sha256_of(words),
        "base": Model.of(base_folder).identity,
    }
    wanted = Manifest("merged", parents, {"config": read_adapter_config(adapter)})
    done = read_manifest(into)
    if done is None or done.identity != wanted.identity:
        subject.claim()
        with files.locked(subject.folder), files.whole_folder(into) as beside:
            merge(adapter, base_folder, beside)
            seal(beside, wanted)
    return Model.of(into)
