"""A proof under way: who is asked what, in which order, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith import files, rooms, say
from tunesmith.artifact import Model, Run
from tunesmith.endpoint import Endpoint
from tunesmith.errors import CannotTell, DataError, Fault, RuntimeFault, TunesmithError
from tunesmith.metrics._choose import choose
from tunesmith.metrics._contract import Metric
from tunesmith.recipe import Recipe
from tunesmith.runtimes._contract import Keeper
from tunesmith.text.example import Ask
from tunesmith.text.template import Text
from tunesmith.verbs import _proof_yardsticks
from tunesmith.verbs._forgotten import Neutral, forgotten, neutral
from tunesmith.verbs._proof import PAGE, Proof, Row
from tunesmith.verbs._proof_arms import Arm, arm
from tunesmith.verbs._proof_asker import Asker, Speaker
from tunesmith.verbs._proof_places import TORCH, Places
from tunesmith.verbs._proof_prompt import Prompted, Room, prompted
from tunesmith.verbs._proof_rows import Drawn, Question
from tunesmith.verbs._proof_verdict import judge
from tunesmith.verbs._subject import Subject
from tunesmith.verbs.check import Job, jobs_of
from tunesmith.weights.facts import BaseFacts

N_CONTEXT = 4096  # tokens of prompt and answer, what every runtime here is opened with
FEWEST_TOKENS, MOST_TOKENS = 32, 1024  # of an answer
MOST_LOOKED_AT = 2000  # training rows, for which metrics fit
FOLDER = "proof"


class Proving:
    """One proof under way."""

    def __init__(self, subject: Subject, run: Run, drawn: Drawn, metric: str | None, system: str | None) -> None:
        from tunesmith.sources._find import source_of

        self.subject, self.run, self.system = subject, run, system
        self.n_new = 0  # answers that nobody had asked for before
        self.recipe: Recipe = run.recipe
        self.folder = subject.folder / FOLDER
        base = source_of(self.recipe.base).bring(self.recipe.base)
        self.base_text, self.text = Text.read(base), Text.read(subject.model.folder)
        self.n_context = min(N_CONTEXT, subject.facts.context, BaseFacts.read(base, "base").context)
        self.max_tokens = _max_tokens(self.text, drawn.longest, self.n_context)
        self.room = Room(self.base_text, self.n_context - self.max_tokens, self.max_tokens)
        self.drawn = self._that_fit(drawn)
        self.chosen, self.metrics = _metrics(self.drawn, metric)
        self.metric = next(iter(self.metrics.values()))
        self.base = self._speaker("base", base)
        self.tuned = self._speaker("tuned", subject.model.folder)

    def _that_fit(self, drawn: Drawn) -> Drawn:
        tuned = Room(self.text, self.room.n_prompt, self.max_tokens)
        fit = tuple(one for one in drawn.questions if self.room.fits(one.ask) and tuned.fits(self._to_tuned(one)))
        if not fit:
            what = f"no held-out row leaves room for an answer in the context of {self.n_context} tokens"
            raise DataError(Fault("prove/too-long", what, fix="hold out shorter rows, or tune a base of more context"))
        n_left = drawn.n_not_asked + len(drawn.questions) - len(fit)
        if n_left:
            say.note(f"{n_left} held-out rows are not asked: they have tools, no answer in words, or are too long")
        return Drawn(fit, drawn.train, drawn.longest, drawn.n_held_out, drawn.n_leaked, n_left)

    def _speaker(self, name: str, folder: Path) -> Speaker:
        from tunesmith import __version__
        from tunesmith.runtimes.torch import Torch, open_folder

        key = files.sha256_of([Model.of(folder).identity, Torch().present().version, __version__])
        n_bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        return Speaker(name, TORCH, "", key, n_bytes, lambda: open_folder(folder))

    @property
    def questions(self) -> tuple[Question, ...]:
        return self.drawn.questions

    def done(self, places: Places, server: Endpoint | None, other: Subject | None) -> Proof:
        base, with_prompt, examples, before = self._untuned()
        tuned, after = self._tuned()
        skipped: dict[str, str] = {}
        elsewhere = tuple(self._elsewhere(places, skipped))
        yardsticks = tuple(self._yardsticks(server, other, skipped))
        manifest = self.run.manifest
        tuning_s = float(manifest.about.get("seconds") or 0.0) if manifest else 0.0
        judged = judge(self.metric, tuned, (base, with_prompt), elsewhere, tuning_s)
        won, lost = self._rows(tuned, judged.against)
        proof = Proof(
            judged=judged,
            metric=self.metric,
            chosen=self.chosen,
            drawn=self.drawn,
            arms=(base, with_prompt, tuned, *elsewhere, *yardsticks),
            skipped=skipped,
            examples=examples,
            won=won,
            lost=lost,
            forgotten=forgotten(before, after),
            tuning_s=tuning_s,
            max_tokens=self.max_tokens,
            html=self.folder / PAGE,
            run=self.run,
            kept=not self.n_new,
        )
        return proof

    def _untuned(self) -> tuple[Arm, Arm, Prompted, Neutral]:
        with self._asker(self.base) as asker:
            base = self._arm("base", asker, self.base_text, [one.ask for one in self.questions], self._as_it_is())
            if self.metric.kind not in base.quality:
                what = f"{self.metric.kind} applies to none of the {len(self.questions)} held-out rows"
                fix = f"leave --metric out, or name one that fits: {', '.join(list(self.metrics)[1:])}"
                raise DataError(Fault("prove/metric-does-not-apply", what, fix=fix))
            found = prompted(
                self.questions, self.drawn.train, self.system, self.room, self.metric, asker, self.recipe.run.seed
            )
            sent = self._with_prompt(found.n_examples)
            with_prompt = self._arm("base + prompt", asker, self.base_text, found.asks, sent)
            return base, with_prompt, found, neutral(asker, self.base_text, self.n_context)

    def _tuned(self) -> tuple[Arm, Neutral]:
        with self._asker(self.tuned) as asker:
            tuned = self._arm("tuned", asker, self.text, self._as_tuned(), self._sent_to_tuned())
            return tuned, neutral(asker, self.text, self.n_context)

    @contextmanager
    def _asker(self, speaker: Speaker) -> Iterator[Asker]:
        with Asker(speaker, self.folder / "answers") as asker:
            yield asker
            self.n_new += asker.n_new

    def _to_tuned(self, question: Question, recipe: Recipe | None = None) -> Ask:
        """As a model is asked that was tuned by a recipe, this one's when left out."""
        drops = (recipe or self.recipe).data.system_prompt == "drop"
        return question.turns if drops else question.ask

    def _as_tuned(self, recipe: Recipe | None = None) -> list[Ask]:
        return [self._to_tuned(one, recipe) for one in self.questions]

    def _sent_to_tuned(self, recipe: Recipe | None = None) -> str:
        if self._as_tuned(recipe) != [one.ask for one in self.questions]:
            return "the row without its system prompt, as it was tuned"
        return self._as_it_is()

    def _as_it_is(self) -> str:
        n = sum(bool(one.system) for one in self.questions)
        with_it = {0: "without a system prompt", len(self.questions): "with its own system prompt"}
        return f"the row as it stands in the data, {with_it.get(n, f'{n} of them with a system prompt')}"

    def _with_prompt(self, n_examples: int) -> str:
        own = "its own system prompt" if any(one.system for one in self.questions) else "no system prompt"
        shown = f"{n_examples} training rows like it" if n_examples else "no examples, which did not make it better"
        return f"the row with {'the given system prompt' if self.system else own} and {shown}"

    def _arm(self, name: str, asker: Asker, text: Text, asks: Sequence[Any], sent: str) -> Arm:
        said = asker.answers(asks, self.max_tokens, f"ask {name}")
        memory = asker.peak_memory_bytes
        texts = [_with_answer(text, ask, one.wanted) for ask, one in zip(asks, self.questions, strict=True)]
        told = asker.likelihoods(texts, f"weigh answers, {name}") if "perplexity" in self.metrics else ()
        return arm(name, asker.speaker, sent, self.questions, said, self.metrics, told, memory)

    def _elsewhere(self, places: Places, skipped: dict[str, str]) -> Iterator[Arm]:
        """The tuned model in each runtime that was asked for and is here; why not, where it is not."""
        exported = {job.runtime.kind for job in jobs_of(self.subject)}
        for name in places.elsewhere:
            if name not in exported:
                kinds = [kind for kind in rooms.names("exports") if name in rooms.find("exports", kind).runtimes]
                get = f"tunesmith export {self.subject.typed} --to {','.join(kinds)}"
                skipped[name] = f"there is no export for it; to make one: {get}"
        for job in places.of(self.subject):
            name = f"tuned {job.export.kind} {job.variant.name}"
            try:
                yield self._ask_there(name, job)
            except CannotTell as missing:
                skipped[f"{name} in {job.runtime.kind}"] = missing.why
            except TunesmithError as error:
                skipped[f"{name} in {job.runtime.kind}"] = error.faults[0].what

    def _ask_there(self, name: str, job: Job) -> Arm:
        return self._asked(self._speaker_of(name, job), self._as_tuned(), self._sent_to_tuned())

    def _asked(self, speaker: Speaker, asks: Sequence[Ask], sent: str) -> Arm:
        """An arm that is asked, and whose likelihoods nobody asks for."""
        with self._asker(speaker) as asker:
            said = asker.answers(asks, self.max_tokens, f"ask {speaker.name} in {speaker.runtime}")
            memory = asker.peak_memory_bytes
        return arm(speaker.name, speaker, sent, self.questions, said, self.metrics, peak_memory_bytes=memory)

    def _yardsticks(self, server: Endpoint | None, other: Subject | None, skipped: dict[str, str]) -> Iterator[Arm]:
        """Others beside whom the tuned model is seen; why not, where they cannot be asked."""
        if server is not None:
            speaker = _proof_yardsticks.speaker_of(server)
            try:
                yield self._asked(speaker, [one.ask for one in self.questions], self._as_it_is())
            except TunesmithError as error:
                skipped[speaker.name] = error.faults[0].what
        if other is None or other.run is None:
            return
        name, recipe = f"run {other.folder.name}", other.run.recipe
        asks = self._as_tuned(recipe)
        if why := _proof_yardsticks.why_not(other, self.questions, asks, self.max_tokens):
            skipped[name] = why
            return
        try:
            yield self._asked(self._speaker(name, other.model.folder), asks, self._sent_to_tuned(recipe))
        except TunesmithError as error:
            skipped[name] = error.faults[0].what

    def _speaker_of(self, name: str, job: Job) -> Speaker:
        found = job.runtime.present_for(job.export) if isinstance(job.runtime, Keeper) else job.runtime.present()
        key = files.sha256_of([self.subject.model.identity, job.files, job.row, found.version, found.where])
        return Speaker(
            name,
            job.runtime.kind,
            job.variant.name,
            key,
            job.variant.n_bytes,
            lambda: job.runtime.open(job.export, job.variant.name, self.text),
        )

    def _rows(self, tuned: Arm, other: Arm) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
        """Those that the tuned model answered better, and those that it answered worse."""
        sign = 1 if self.metric.higher_is_better else -1
        won: list[Row] = []
        lost: list[Row] = []
        scored = zip(tuned.scores[self.metric.kind].values, other.scores[self.metric.kind].values, strict=True)
        for at, (ours, theirs) in enumerate(scored):
            if ours is None or theirs is None or ours == theirs:
                continue
            one, place = self.questions[at], f"{self.questions[at].file}, line {self.questions[at].line}"
            row = Row(one.asked, one.wanted, tuned.said[at].answer.text, other.said[at].answer.text, place)
            (won if sign * ours > sign * theirs else lost).append(row)
        return tuple(won), tuple(lost)


def _max_tokens(text: Text, longest: Sequence[str], n_context: int) -> int:
    """A quarter more than the longest answer of the data takes, so that only what goes on and on is cut."""
    most = max((len(text.encode(one)) for one in longest), default=0)
    return max(1, min(MOST_TOKENS, max(FEWEST_TOKENS, most + most // 4 + 8), n_context // 2))


def _metrics(drawn: Drawn, named: str | None) -> tuple[dict[str, str], dict[str, Metric]]:
    """(why, by name) and the metrics; the first is the one to decide by."""
    chosen: dict[str, str] = {}
    metrics: dict[str, Metric] = {}
    if named:
        chosen[named], metrics[named] = "asked for", _metric(named, drawn)
        if faults := metrics[named].refuse():
            raise RuntimeFault(faults)
    for one in choose([one.wanted for one in (*drawn.questions, *drawn.train[:MOST_LOOKED_AT])]):
        if one.faults:
            say.note(f"{one.name} is left out: {one.faults[0].what}; {one.faults[0].fix}")
        elif one.name not in metrics:
            chosen[one.name], metrics[one.name] = one.why, _metric(one.name, drawn)
    return chosen, metrics


def _metric(name: str, drawn: Drawn) -> Metric:
    labels = {"labels": tuple(sorted({one.wanted for one in drawn.train}))} if name == "label" else {}
    made: Metric = rooms.find("metrics", name)(**labels)
    return made


def _with_answer(text: Text, ask: Any, wanted: str) -> tuple[list[int], int]:
    """The ids of a question with the wanted answer and its end, and how many of them are given."""
    prompt = text.prompt(ask).ids
    end = min(text.turn_end_ids(), default=text.end_id)
    return [*prompt, *text.encode(wanted), *([] if end is None else [end])], len(prompt)
