"""What a person points `export`, `check` and `chat` at: a run, a Hugging Face model, or a PEFT adapter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tunesmith import files, say
from tunesmith.artifact import Export, Manifest, Model, Run, read_manifest, seal
from tunesmith.errors import ArtifactError, Fault
from tunesmith.sources._find import source_of
from tunesmith.text.template import Text
from tunesmith.weights.facts import BaseFacts


@dataclass(frozen=True)
class Subject:
    """A model at rest, and the folder in which its exports stand."""

    model: Model
    folder: Path
    run: Run | None

    @property
    def facts(self) -> BaseFacts:
        """Its config and tokenizer files."""
        return BaseFacts.read(self.model.folder, self.folder.name)

    @property
    def exports(self) -> dict[str, Export]:
        """The exports that are done, by kind."""
        return dict(Run(self.folder).exports)


def subject_of(what: str | Path | Run, *, base: str | None = None, into: Path | None = None) -> Subject:
    """The model that is meant.

    A run has its exports in its own folder; those of what someone else trained go to `runs/NAME` unless `into` is
    given. An adapter is merged there first, once.

    Raises:
        ArtifactError: `artifact/missing`, `artifact/unfinished`, `artifact/not-a-model`, or an adapter's faults.
        SourceError: the adapter's base cannot be had.
    """
    from tunesmith.weights.merge import is_adapter

    folder = what.folder if isinstance(what, Run) else Path(what)
    if not folder.is_dir():
        fix = "give a run, a Hugging Face model folder, or a PEFT adapter folder"
        raise ArtifactError(Fault("artifact/missing", "there is no such folder", fix=fix, file=str(folder)))
    if (folder / "recipe.yaml").is_file():
        return _run_subject(Run(folder), into)
    if is_adapter(folder):
        return _adapter_subject(folder, base, into or _home_of(folder))
    return Subject(Model.of(folder), into or _home_of(folder), None)


def _run_subject(run: Run, into: Path | None) -> Subject:
    if run.manifest is None:
        fix = f"go on with: tunesmith run {run.folder / 'recipe.yaml'} --into {run.folder}"
        raise ArtifactError(Fault("artifact/unfinished", "this run is not done yet", fix=fix, file=str(run.folder)))
    return Subject(run.model, into or run.folder, run)


def _home_of(folder: Path) -> Path:
    return Path("runs") / folder.resolve().name


def _adapter_subject(folder: Path, base: str | None, into: Path) -> Subject:
    """Merges into `into/model`, unless the same adapter and base were merged there before."""
    from tunesmith.weights.merge import WEIGHTS, read_adapter_config

    config = read_adapter_config(folder)
    base = base or config.get("base_model_name_or_path")
    if not base:
        fix = "name it: --base HUB_ID_OR_FOLDER"
        raise ArtifactError(
            Fault("adapter/no-base", "the adapter does not say what it was trained on", fix=fix, file=str(folder))
        )
    base_folder = source_of(base).bring(base)
    parents = {"adapter": files.sha256(folder / WEIGHTS), "base": Model.of(base_folder).identity}
    wanted = Manifest("merged", parents, {"config": config})
    done = read_manifest(into / "model")
    if done is None or done.identity != wanted.identity:
        with files.locked(into), files.whole_folder(into / "model") as beside:
            _merge(base_folder, folder, beside)
            seal(beside, wanted)
    return Subject(Model.of(into / "model"), into, None)


def _merge(base: Path, adapter: Path, into: Path) -> None:
    from tunesmith.weights.merge import merge_adapter
    from tunesmith.weights.save import end_with, save

    with say.progress("merge the adapter into its base", 2, "steps") as bar:
        model = merge_adapter(base, adapter)
        bar.advance(1)
        has_own_words = (adapter / "tokenizer_config.json").is_file()
        words = adapter if has_own_words else base
        save(model, words, into, "float32")
        end_with(into, Text.read(words).end_ids)
        bar.advance(1)
