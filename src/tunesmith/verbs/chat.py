from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith import rooms
from tunesmith.artifact import Export, Run
from tunesmith.errors import ArtifactError, CannotTell, Fault, RuntimeFault
from tunesmith.runtimes._contract import Opened
from tunesmith.text.template import Text
from tunesmith.verbs._subject import Subject, subject_of


@contextmanager
def chat(
    what: str | Path | Run,
    *,
    runtime: str = "torch",
    variant: str | None = None,
    base: str | None = None,
    into: Path | None = None,
) -> Iterator[Opened]:
    """The model, opened in a runtime and ready to be asked.

    `with chat("runs/demo", runtime="llama_cpp") as model: model.answer(messages, 200).text`

    Args:
        what: a run, a Hugging Face model folder, or a PEFT adapter folder.
        runtime: torch needs no export; the others need the export that they load.
        variant: which of the export's files, such as q8_0; the first when left out.
        base: the model an adapter was trained on, where it does not say so itself.
        into: the folder given to `export`.

    Raises:
        ArtifactError: `chat/not-exported` or `chat/unknown-variant`.
        RuntimeFault: `chat/runtime-missing`, with the way to get it.
    """
    subject = subject_of(what, base=base, into=into)
    if runtime == "torch":
        from tunesmith.runtimes.torch import open_folder

        with open_folder(subject.model.folder, Text.read(subject.model.folder)) as opened:
            yield opened
        return
    member = rooms.find("runtimes", runtime)()
    export = _export_for(subject, runtime)
    text = Text.read(subject.model.folder)
    with _present(member.open(export, _variant(export, variant), text)) as opened:
        yield opened


def _export_for(subject: Subject, runtime: str) -> Export:
    kinds = [kind for kind in rooms.names("exports") if runtime in rooms.find("exports", kind).runtimes]
    for kind in kinds:
        export = subject.export(kind)
        if export is not None:
            return export
    fix = f"tunesmith export {subject.typed} --to {kinds[0]}"
    raise ArtifactError(
        Fault("chat/not-exported", f"{runtime} needs the export {kinds[0]}", fix=fix, file=str(subject.folder))
    )


def _variant(export: Export, name: str | None) -> str:
    if name is None:
        return next(iter(export.variants))
    if name not in export.variants:
        fix = rooms.did_you_mean(name, export.variants)
        raise ArtifactError(
            Fault("chat/unknown-variant", f"the export has no {name!r}", fix=fix, file=str(export.folder))
        )
    return name


@contextmanager
def _present(opening: object) -> Iterator[Opened]:
    """A runtime that is not here is, for a person who wants to talk, an error and no open question."""
    try:
        with opening as opened:  # type: ignore[attr-defined]
            yield opened
    except CannotTell as missing:
        raise RuntimeFault(Fault("chat/runtime-missing", missing.why, fix="see: tunesmith doctor")) from None
