from __future__ import annotations

import gc
import json
import os
import shutil
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith import files, say
from tunesmith.artifact import MARK, Manifest, Model, Run, read_manifest, seal
from tunesmith.errors import ArtifactError, Fault, LearnError, PlanError
from tunesmith.recipe import Recipe
from tunesmith.text import virtual, vocabulary
from tunesmith.text.template import Text
from tunesmith.verbs._begin import put_on
from tunesmith.verbs._card import card
from tunesmith.verbs._ready import data_hash, home_of
from tunesmith.verbs.plan import Plan, plan

if TYPE_CHECKING:
    from tunesmith.learn.loop import Learnt
    from tunesmith.learn.settings import Settings
    from tunesmith.weights.facts import BaseFacts

SETTLED = "settled.json"
DECIDES = ("recipe.yaml", SETTLED, "metrics.jsonl", "model", "adapter")
"""What a run is. Its card, its exports and their checks may come and go."""


@dataclass(frozen=True)
class _Work:
    """One tuning: what, where, from what, and what its manifest will say."""

    recipe: Recipe
    folder: Path
    base: Path
    wanted: Manifest


def tune(recipe: Recipe, *, into: Path | None = None, resume: bool = False, fresh: bool = False) -> Run:
    """A tuned model from a recipe. A run that is done already, from the same recipe, data and base, is kept.

    Args:
        recipe: what is asked for.
        into: the run's folder; `runs/` and the name of the recipe's file when left out.
        resume: go on from the last checkpoint in the folder.
        fresh: begin anew; what stands in the folder is kept beside it.

    Raises:
        PlanError: every reason why it cannot be done, before a weight is loaded.
        ArtifactError: `artifact/other-recipe`, `artifact/unfinished-run`, `artifact/not-a-run`, `files/in-use`.
        LearnError: `learn/interrupted` after Ctrl-C, and what the loop says.
    """
    _alone()
    folder = into or home_of(recipe)
    planned = None
    if fresh or not Run(folder).begun:
        planned = plan(recipe, into=folder, probe="kept").or_raise()  # before anything is made or moved
        if fresh:
            _set_aside(folder)
        elif _is_foreign(folder):
            fix = "name a new or empty folder with --into"
            raise ArtifactError(
                Fault("artifact/not-a-run", "this folder holds something else", fix=fix, file=str(folder))
            )
    with files.locked(folder):
        work = _work(recipe, folder)
        _stands(work, resume=resume)
        if _is_done(work):
            say.note(f"kept: {folder} is this very run, done before")
            return Run(folder)
        if not _is_settled(work):
            _learn_and_settle(work, planned or plan(recipe, into=folder, probe="kept").or_raise())
        _finish(work)
    return Run(folder)


def _alone() -> None:
    """Refuses several processes: each would prepare and settle the same run."""
    n = os.environ.get("WORLD_SIZE", "1")
    if n not in ("", "1"):
        what = f"started as {n} processes (WORLD_SIZE), and a run is tuned by one"
        raise LearnError(Fault("learn/several-processes", what, fix="start it without torchrun or accelerate launch"))


def _work(recipe: Recipe, folder: Path) -> _Work:
    from tunesmith.sources._find import source_of

    base = source_of(recipe.base).bring(recipe.base)
    try:
        identity = Model.of(base).identity
    except ArtifactError:
        fix = "put its .safetensors files there, or name a model that has them"
        raise PlanError(Fault("plan/no-weights", "the base has no weights here", fix=fix, file=str(base))) from None
    parents = {"base": identity, "data": data_hash(recipe)}
    return _Work(recipe, folder, base, Manifest("run", parents, {"learning": recipe.learning_hash()}))


def _is_foreign(folder: Path) -> bool:
    return folder.exists() and any(not one.name.startswith(".") for one in folder.iterdir())


def _set_aside(folder: Path) -> None:
    """What stands in the folder goes beside it, under the first free name."""
    if not _is_foreign(folder):
        return
    if folder.resolve() == Path.cwd():
        what = "beginning anew would move the folder that the command is typed in"
        raise ArtifactError(Fault("artifact/current-folder", what, fix="type it one folder above", file=str(folder)))
    number = 1
    while (aside := folder.with_name(f"{folder.name}.old-{number}")).exists():
        number += 1
    with files.locked(folder):
        Path(folder).replace(aside)
    say.note(f"what stood in {folder} is kept in {aside}")


def _stands(work: _Work, *, resume: bool) -> None:
    """Whether this work may go on in its folder; writes down whose folder it is when it begins."""
    from tunesmith.learn import resume as checkpoints

    mark = work.folder / MARK
    if mark.is_file():
        if json.loads(mark.read_text(encoding="utf-8")) != _identity(work):
            what = f"holds a run of another recipe, other data or another base: {_difference(mark, work)}"
            fix = "name another folder with --into, or begin anew with --fresh (what is there is kept beside it)"
            raise ArtifactError(Fault("artifact/other-recipe", what, fix=fix, file=str(work.folder)))
        found = checkpoints.latest(work.folder)
        if found and not resume and not (work.folder / SETTLED).is_file():
            what = f"an unfinished run stands here, at step {found[1].step}"
            again = f"tunesmith tune {work.folder / 'recipe.yaml'} --into {work.folder}"
            fix = f"go on with: {again} --resume, or begin anew with --fresh"
            raise ArtifactError(Fault("artifact/unfinished-run", what, fix=fix, file=str(work.folder)))
    else:
        files.write_json(mark, _identity(work))
    files.write_new_text(work.folder / "recipe.yaml", work.recipe.as_yaml())


def _identity(work: _Work) -> dict[str, Any]:
    return {**work.wanted.parents, **work.wanted.options}


def _difference(mark: Path, work: _Work) -> str:
    before, now = json.loads(mark.read_text(encoding="utf-8")), _identity(work)
    words = {"base": "the base", "data": "the data", "learning": "the recipe"}
    return ", ".join(word for key, word in words.items() if before.get(key) != now[key]) + " differs"


def _is_done(work: _Work) -> bool:
    manifest = read_manifest(work.folder)
    return manifest is not None and manifest.identity == work.wanted.identity


def _is_settled(work: _Work) -> bool:
    """Whether the model at rest stands, whole and as it was accepted."""
    try:
        told = json.loads((work.folder / SETTLED).read_text(encoding="utf-8"))
        return bool(told["model"] == Model.of(work.folder / "model").identity)
    except (OSError, ValueError, KeyError, ArtifactError):
        return False


def _learn_and_settle(work: _Work, planned: Plan) -> None:
    settings = _settings(work, planned)
    files.write_json(work.folder / "plan.json", {**planned.as_json(), "settings": settings.__dict__})
    for value in planned.values:
        say.note(f"{value.name}: {value.value}  ({value.why})")
    for gap in planned.gaps:
        say.note(f"{gap.what}; {gap.get}")
    learnt = _learn(work, planned, settings)
    gc.collect()
    _settle(work, planned, settings, learnt)


def _settings(work: _Work, planned: Plan) -> Settings:
    """Those of the plan; of a run that goes on, those it began with, where this is still such a machine."""
    from tunesmith.learn import resume
    from tunesmith.learn.settings import Settings

    settings = planned.ready.settings
    assert settings is not None
    if resume.latest(work.folder) is None:
        return settings
    try:
        kept = Settings(**json.loads((work.folder / "plan.json").read_text(encoding="utf-8"))["settings"])
    except (OSError, ValueError, KeyError, TypeError):
        return settings
    if kept.device != settings.device:
        return settings
    return replace(kept, most_rows=settings.most_rows, checkpoint_minutes=settings.checkpoint_minutes)


def begun(method: Any, base: Path, facts: BaseFacts, settings: Settings) -> Any:
    """The base from a folder as the method begins to move it, each weight in the type that it learns or stands in."""
    import torch

    from tunesmith.weights.load import load

    with say.progress("load the base", 1, "model") as bar:
        loaded: Any = load(base, settings.torch_dtype if method.keeps_base else torch.float32)
        bar.advance(1)
    return put_on(method, loaded, facts, settings)


def _learn(work: _Work, planned: Plan, settings: Settings) -> Learnt:
    from tunesmith.learn.loop import learn
    from tunesmith.weights.save import copy_words

    method: Any = planned.ready.method
    assert planned.ready.facts is not None
    model = begun(method, work.base, planned.ready.facts, settings)
    _name_base(model, work.recipe.base)
    learnt = learn(
        model,
        planned.ready.rows,
        planned.ready.held_out,
        settings,
        keeper=method,
        run=work.folder,
        rates=method.rates(model),
    )
    if method.keeps_base:
        with files.whole_folder(work.folder / "adapter") as beside:
            method.save(model, beside)
            words = method.words(planned.ready.facts)
            if words:
                copy_words(work.base, beside)
                vocabulary.enter(beside, words, special=False)
    return learnt


def _name_base(model: Any, base: str) -> None:
    """What the adapter will name as its base."""
    from tunesmith.learn.loss import inner

    name, revision = _named(base)
    found: Any = inner(model)
    found.name_or_path, found.revision = name, revision
    for config in getattr(model, "peft_config", {}).values():
        config.base_model_name_or_path, config.revision = name, revision


def _named(base: str) -> tuple[str, str | None]:
    """Name and revision as PEFT writes them: a Hub model's apart, anything else as it is."""
    from tunesmith.sources import hub
    from tunesmith.sources._find import source_of

    return hub.named(base) if isinstance(source_of(base), hub.Hub) else (base, None)


def _settle(work: _Work, planned: Plan, settings: Settings, learnt: Learnt) -> None:
    """The learnt weights in a plain model, which is accepted when it answers as they did and not as the base."""
    import torch

    from tunesmith.learn import agree, resume
    from tunesmith.weights.load import load
    from tunesmith.weights.save import end_with, save

    found = resume.latest(work.folder)
    assert found is not None  # the loop's last step leaves one
    method: Any = planned.ready.method
    facts = planned.ready.facts
    lead, words = method.lead(facts), method.words(facts)
    asked = agree.probes(planned.ready.held_out or planned.ready.rows, len(lead))
    with say.progress("come to rest", 3, "parts") as bar:
        base = load(work.base, torch.float32)
        # A base that lacks some of the tokens cannot be asked.
        before = None if words else agree.logprobs(base, [ids[len(lead) :] for ids in asked], lead)
        wrapped = method.wrap(base, facts)
        begun = agree.logprobs(wrapped, asked, lead, len(lead))  # some change the base as they are put on
        method.load(wrapped, found[0] / "weights")
        tuned = agree.logprobs(wrapped, asked, lead, len(lead))
        bar.advance(1)
        settled = method.settle(wrapped).eval()
        gap = agree.gap(tuned, agree.logprobs(settled, asked, lead, len(lead)))
        moved = agree.gap(tuned, before or begun)
        _accept(gap, min(moved, agree.gap(tuned, begun)), work.folder)
        bar.advance(1)
        with files.whole_folder(work.folder / "model") as beside:
            save(settled, work.base, beside, settings.save_dtype)
            end_with(beside, Text.read(work.base).end_ids)
            if lead:
                virtual.lead_with(beside, lead)
            if words:
                vocabulary.add(beside, words, special=False)
        bar.advance(1)
    about = {
        "steps": learnt.steps,
        "seconds": round(learnt.seconds, 1),
        "loss": learnt.loss,
        "held_out_loss": learnt.held_out_loss,
        "settled_gap": gap,
        "moved": moved,
        "dtype": settings.dtype,
        "save_dtype": settings.save_dtype,
        "trainable": method.trainable(facts),
        "method": type(method).kind,
        "rows": len(planned.ready.rows),
        "longest": max(map(len, (row.ids for row in planned.ready.rows))),
        "versions": {name: version(name) for name in ("tunesmith", "torch", "transformers", "peft")},
    }
    files.write_json(work.folder / SETTLED, {"model": Model.of(work.folder / "model").identity, "about": about})


def _accept(gap: float, moved: float, folder: Path) -> None:
    from tunesmith.learn.agree import MOVED, SAME

    faults = []
    if not gap <= SAME:
        what = (
            f"the weights at rest answer otherwise than the trained model: {gap:.1e} apart, and {SAME:.0e} is allowed"
        )
        fix = "report it with the recipe; the adapter and the last checkpoint are kept"
        faults.append(Fault("learn/settled-otherwise", what, fix=fix, file=str(folder)))
    if not moved > MOVED:
        what = f"the tuned model answers as its base does ({moved:.1e} apart): nothing was learnt"
        fix = "raise run.learning_rate or run.epochs, and begin anew with --fresh"
        faults.append(Fault("learn/nothing-learnt", what, fix=fix, file=str(folder)))
    if faults:
        raise LearnError(faults)


def _finish(work: _Work) -> None:
    """Card and manifest; the checkpoints have served."""
    about = json.loads((work.folder / SETTLED).read_text(encoding="utf-8"))["about"]
    shutil.rmtree(work.folder / "checkpoints", ignore_errors=True)
    files.write_new_text(work.folder / "README.md", card(work.recipe, about, work.wanted.parents["data"]))
    seal(work.folder, Manifest(work.wanted.kind, work.wanted.parents, work.wanted.options, about), DECIDES)
