from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunesmith import files, rooms
from tunesmith.artifact import Run
from tunesmith.errors import ArtifactError, Fault, RecipeError, RuntimeFault
from tunesmith.verbs import _proof_yardsticks
from tunesmith.verbs._proof import Proof
from tunesmith.verbs._proof_places import Places
from tunesmith.verbs._proof_rows import draw
from tunesmith.verbs._proving import Proving
from tunesmith.verbs._subject import Subject, subject_of

REPORT = "report.json"


def prove(
    what: str | Path | Run,
    *,
    rows: int = 200,
    runtimes: Sequence[str] | None = None,
    variants: Sequence[str] | None = None,
    metric: str | None = None,
    system: str | None = None,
    endpoint: str | None = None,
    endpoint_model: str | None = None,
    endpoint_key: str = "",
    with_: str | Path | Run | None = None,
) -> Proof:
    """Whether the tuned model is worth shipping: against its base as it is, and against the base with its best prompt.

    The rows are held out, and none of them is a training row. What was answered is kept in the run's folder, so that a
    second call asks only what is new. `proof/report.json` and `proof/report.html` are written, and the figures go into
    the run's card.

    Args:
        what: a run.
        rows: at most so many held-out rows are asked, drawn by the recipe's seed.
        runtimes: where the tuned model is asked; torch is always. All that its exports are for when left out.
        variants: the files of its exports that are asked there, such as `q8_0`; all when left out.
        metric: what decides; chosen from the answers in the data when left out.
        system: a system prompt for the prompted base; the one of each row when left out.
        endpoint: the address, up to `/v1`, of a server that speaks OpenAI's chat completions: it is asked the rows as
            they stand in the data, and decides nothing.
        endpoint_model: the model that is asked there.
        endpoint_key: the environment variable that holds the key for it.
        with_: another run, whose tuned model is asked too, as it was tuned; it decides nothing.

    Raises:
        ArtifactError: `prove/no-run`.
        DataError: there is nothing that can be asked, or the metric applies to no row.
        RecipeError: `prove/no-rows`, `prove/no-variant`, or a name that is not known.
        RuntimeFault: the metric cannot be computed here.
    """
    subject = _subject_of_a_run(what)
    assert subject.run is not None
    other = None if with_ is None else _subject_of_a_run(with_)
    if faults := _proof_yardsticks.refusals(endpoint, endpoint_model, endpoint_key):
        raise RuntimeFault(faults)
    for name in runtimes or ():
        rooms.find("runtimes", name)
    if rows < 1:
        raise RecipeError(
            Fault("prove/no-rows", f"{rows} rows prove nothing", fix="ask one or more, such as --rows 200")
        )
    places = Places(runtimes, variants)
    places.of(subject)  # a name that is not known is told before anything is asked
    with files.locked(subject.folder):
        proving = Proving(subject, subject.run, draw(subject.run, rows), metric, system)
        server = _proof_yardsticks.endpoint_of(endpoint, endpoint_model or "", endpoint_key) if endpoint else None
        proof = proving.done(places, server, other)
        _write(proof)
        return proof


def _subject_of_a_run(what: str | Path | Run) -> Subject:
    subject = subject_of(what)
    if subject.run is None:
        fix = "name the folder of a run, such as runs/voice: it knows the base, and which rows it learnt from"
        raise ArtifactError(Fault("prove/no-run", "only a run can be proved", fix=fix, file=str(subject.source)))
    return subject


def _write(proof: Proof) -> None:
    from tunesmith.verbs._card import with_proof
    from tunesmith.verbs._page_of_proof import page

    files.write_json(proof.html.with_name(REPORT), proof.as_json())
    files.write_text(proof.html, page(proof))
    card = proof.run.folder / "README.md"
    if card.is_file():
        files.write_text(card, with_proof(card.read_text(encoding="utf-8"), proof))
