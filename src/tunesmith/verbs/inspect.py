from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunesmith import files, rooms, say
from tunesmith.errors import Fault, RecipeError
from tunesmith.formats._reading import Stream, Taken
from tunesmith.objectives._prepare import tell_unwritten
from tunesmith.recipe import Options
from tunesmith.risks._contract import Found
from tunesmith.risks._looking import Looking
from tunesmith.text.example import Example, Tokens
from tunesmith.text.template import Text
from tunesmith.verbs import _mended_copy
from tunesmith.verbs._drawn import Drawn
from tunesmith.verbs._fault_groups import Faults, Group
from tunesmith.verbs._mended_copy import Fixed
from tunesmith.verbs._row_numbers import RowNumbers
from tunesmith.verbs._shown import Shown, shown
from tunesmith.verbs._what_is_learnt import Learnt
from tunesmith.weights.facts import BaseFacts

N_SHOWN = 3  # the first rows
N_DRAWN = 5  # others, from anywhere in the data


@dataclass(frozen=True)
class Inspection:
    """What is in the data: its format, its numbers, every fault and risk, and some rows as they are learnt from.

    `learnt` is None where no model was named. `shown` holds the first usable rows, and `drawn` a few from anywhere:
    rendered and token by token with a model, else the messages as they stand. `n_sampled` is the rows that were
    tokenized, where those were not all.
    """

    format: str
    n_rows: int
    n_usable: int
    n_test_rows: int
    seen: Faults
    numbers: RowNumbers
    learnt: Learnt | None = None
    n_sampled: int | None = None
    risks: tuple[Found, ...] = ()
    shown: tuple[Shown, ...] = ()
    drawn: tuple[Shown, ...] = ()
    fixed: Fixed | None = None
    html: str | None = None
    strict: bool = False

    @property
    def n_faults(self) -> int:
        """All faults, also those that are not kept."""
        return self.seen.total

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Every fault, up to the first 10,000."""
        return tuple(self.seen.kept)

    @property
    def groups(self) -> tuple[Group, ...]:
        """Like faults together, the most frequent first."""
        return self.seen.groups

    @property
    def n_prompt_tokens(self) -> int | None:
        """Tokens that are only read; None without a model."""
        return self.learnt.n_prompt if self.learnt else None

    @property
    def n_learnt_tokens(self) -> int | None:
        """Tokens that carry loss; None without a model."""
        return self.learnt.n_learnt if self.learnt else None

    @property
    def ok(self) -> bool:
        """Whether all rows can be learnt from, or all of the mended copy; under `strict`, and no risk is high."""
        n_faults = self.fixed.left.total if self.fixed else self.n_faults
        return not n_faults and not (self.strict and any(risk.severity == "high" for risk in self.risks))

    @property
    def verdict(self) -> str:
        """All of it in a sentence or two."""
        return _verdict(self)

    def as_json(self) -> Mapping[str, Any]:
        """The same for programs; keys as `docs/json.md` promises."""
        counted = {"prompt": self.n_prompt_tokens, "learnt": self.n_learnt_tokens}
        keys = ("code", "file", "line", "key", "what", "fix")
        learnt = self.learnt
        of_tokens = learnt.as_json() if learnt else {"tokens": None, "learnt_tokens": None, "shared_beginning": None}
        return {
            "format": self.format,
            "rows": self.n_rows,
            "usable": self.n_usable,
            "test_rows": self.n_test_rows,
            "tokens": counted if learnt else None,
            "numbers": {**self.numbers.as_json(), **of_tokens, "tokenized_rows": self.n_sampled},
            "end_of_turn": learnt.ends.as_json() if learnt else None,
            "truncated": learnt.long.as_json() if learnt else None,
            "faults_total": self.n_faults,
            "groups": [group.as_json() for group in self.groups],
            "faults": [{key: getattr(fault, key) for key in keys} for fault in self.faults],
            "risks": [_risk_as_json(risk) for risk in self.risks],
            "fixed": self.fixed.as_json() if self.fixed else None,
            "html": self.html,
        }


def inspect(
    data: str | Sequence[str],
    *,
    format: str | None = None,  # the word of the recipe
    model: str | None = None,
    max_length: int | None = None,
    test: str | None = None,
    sample: int | None = None,
    html: str | None = None,
    fix: str | None = None,
    strict: bool = False,
) -> Inspection:
    """What is in the data: every fault with its line, its numbers and risks, and which text is learnt.

    Rows go by one at a time, so data may be larger than memory. Files that are there are not written over, save an
    earlier page.

    Args:
        data: files, globs or folders.
        format: how a row is read; found from the rows when left out.
        model: counts tokens and renders as this model does: Hub id, folder, .gguf file, or bundle:NAME.
        max_length: tokens an example may have; what a plan would choose when left out.
        test: a file of rows that are held out; those that are also learnt from are told.
        sample: how many rows are tokenized, drawn from all of them; every one when left out.
        html: the file of a page that shows all of it.
        fix: the .jsonl file of a mended copy; what cannot be mended goes beside it, to NAME.rejected.jsonl.
        strict: `ok` is False where a risk is high.

    Raises:
        RecipeError: there is no such format; `inspect/max-length` or `inspect/sample`, when it is below 1;
            `inspect/no-model`, when rows are to be tokenized by none; `inspect/not-html`, `inspect/not-jsonl` and
            `inspect/exists`, when a file cannot be written so.
        PlanError: `plan/too-long`, when `max_length` is more than the model attends to.
        SourceError: the model cannot be had.
    """
    paths = [data] if isinstance(data, str) else list(data)
    refused = _refused(max_length, sample, model, html, fix)
    if refused:
        raise RecipeError(refused)
    stream = Stream(paths, format, test)
    look = _Look(_Base.of(model, max_length) if model else None, sample)
    for taken in stream:
        look.take(taken)
    look.tokenize_sample()
    if test is not None:
        look.take_tests(Stream(test, format))
    found = look.inspection(stream, strict)
    if fix is not None:
        drop = [(one.file, one.line) for risk in found.risks if risk.risk == "duplicates" for one in risk.drop]
        learnt = look.base.learnt(in_pieces=stream.format == "text") if look.base and sample is None else None
        read_as = format if stream.format else "messages"
        fixed = _mended_copy.write(paths, read_as, fix, without=test, drop=drop, learnt=learnt)
        found = replace(found, fixed=fixed)
    if html is not None:
        from tunesmith.verbs._page_of_data import page

        found = replace(found, html=html)
        files.write_text(Path(html), page(found, paths, model))
    return found


def _refused(
    max_length: int | None, sample: int | None, model: str | None, html: str | None, fix: str | None
) -> list[Fault]:
    faults = []
    if max_length is not None and max_length < 1:
        what = f"max_length is {max_length}, and an example has one token at least"
        faults.append(Fault("inspect/max-length", what, fix="give 1 or more, or leave it out"))
    if sample is not None and sample < 1:
        what = f"sample is {sample}, and one row at least is tokenized"
        faults.append(Fault("inspect/sample", what, fix="give 1 or more, or leave it out"))
    if sample is not None and model is None:
        what = "a sample is of rows that are tokenized, and there is no model to do it"
        faults.append(Fault("inspect/no-model", what, fix="name one, for example --model bundle:smollm2-135m-instruct"))
    if html is not None and Path(html).suffix.lower() not in (".html", ".htm"):
        what = f"the page is HTML, and {html!r} is not named so"
        faults.append(Fault("inspect/not-html", what, fix=f"name it {Path(html).stem or 'data'}.html"))
    return faults + (_mended_copy.refuse(fix) if fix is not None else [])


@dataclass(frozen=True)
class _Base:
    """The model that rows are tokenized for."""

    facts: BaseFacts
    text: Text
    max_length: int | None

    @classmethod
    def of(cls, model: str, max_length: int | None) -> _Base:
        from tunesmith.sources._find import source_of

        facts = source_of(model).facts(model)
        made = cls(facts, Text.read(facts.folder), max_length)
        made.learnt(in_pieces=False)  # what is wrong with the limit is said before anything is read
        return made

    def learnt(self, *, in_pieces: bool) -> Learnt:
        from tunesmith.learn.settings import longest

        objective = rooms.find("objectives", "uft" if in_pieces else "sft")()
        most = longest(Options(max_length=self.max_length or "auto"), self.facts, in_pieces=in_pieces)
        return Learnt(objective, self.text, int(most.value), self.facts.window)


_Row = tuple[Example, tuple[Tokens, ...]]


@dataclass
class _Look:
    """One pass over the rows; what is kept of them does not grow with their number."""

    base: _Base | None
    sample: int | None
    n_usable: int = 0
    n_test_rows: int = 0
    faults: Faults = field(default_factory=Faults)
    numbers: RowNumbers = field(default_factory=RowNumbers)
    learnt: Learnt | None = None
    first: list[_Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.looking = Looking(self.base.text if self.base else None)
        self.drawn: Drawn[_Row] = Drawn(N_SHOWN + N_DRAWN)
        self.sampled: Drawn[Example] | None = Drawn(self.sample) if self.sample else None

    def take(self, taken: Taken) -> None:
        """One row that is learnt from."""
        self.faults.see(taken.faults)
        if taken.example is None:
            return
        if self.base and self.learnt is None:
            self.learnt = self.base.learnt(in_pieces=not taken.example.is_chat)
        if self.sampled is not None:
            self._count(taken.example)
            self.sampled.see(taken.example)
        elif self.learnt is None:
            self._count(taken.example)
            self._show(taken.example, ())
        elif self._tokenize(taken.example):
            self._count(taken.example)

    def _count(self, example: Example) -> None:
        self.n_usable += 1
        self.numbers.see(example)
        self.looking.see(example)

    def _tokenize(self, example: Example) -> bool:
        assert self.learnt is not None
        weighed = self.learnt.see(example)
        self.faults.see(weighed.faults)
        if weighed.made:
            self._show(example, weighed.made)
        return bool(weighed.made)

    def _show(self, example: Example, made: tuple[Tokens, ...]) -> None:
        if len(self.first) < N_SHOWN:
            self.first.append((example, made))
        self.drawn.see((example, made))

    def tokenize_sample(self) -> None:
        """Those that were drawn, where not all are."""
        if self.sampled is None:
            return
        rows = self.sampled.in_order
        with say.progress("tokenize", len(rows), "rows") as bar:
            for example in rows:
                bar.advance(1)
                self.n_usable -= not self._tokenize(example)

    def take_tests(self, stream: Stream) -> None:
        """The rows that are held out; of these as many are tokenized as of those that are learnt from."""
        n_left = self.sample
        for taken in stream:
            self.faults.see(taken.faults)
            if taken.example is None:
                continue
            self.looking.see(taken.example, test=True)
            if self.learnt is not None and n_left != 0:
                self.faults.see(self.learnt.refuse(taken.example))
                n_left = None if n_left is None else n_left - 1
        self.n_test_rows = stream.n_rows

    def inspection(self, stream: Stream, strict: bool) -> Inspection:
        """All that was seen."""
        tell_unwritten(self.learnt.unwritten if self.learnt else {})
        text = self.base.text if self.base else None
        places = {(one.file, one.line) for one, _ in self.first}
        others = [row for row in self.drawn.in_order if (row[0].file, row[0].line) not in places]
        return Inspection(
            stream.format,
            stream.n_rows,
            self.n_usable,
            self.n_test_rows,
            self.faults,
            self.numbers,
            self.learnt,
            None if self.sampled is None else len(self.sampled.in_order),
            self.looking.found(),
            shown(self.first, text, N_SHOWN),
            shown(others, text, N_DRAWN),
            strict=strict,
        )


def _verdict(found: Inspection) -> str:
    if not found.n_rows and not found.n_usable:
        return "There is no row that can be learnt from."
    n, usable = found.n_rows, found.n_usable
    rows = f"{n:,} {'row' if n == 1 else 'rows'}"
    said = [f"All {rows} can be learnt from." if usable == n else f"{usable:,} of {rows} can be learnt from."]
    if found.n_faults:
        n_kinds = len(found.groups)
        kinds = f", of {n_kinds:,} kinds" if n_kinds > 1 else ""
        said.append(
            f"{found.n_faults:,} {'fault stands' if found.n_faults == 1 else 'faults stand'} in the way{kinds}."
        )
    high = sum(risk.severity == "high" for risk in found.risks)
    if found.risks:
        which = f"{high} of them high" if high else "none of them high"
        said.append(f"{len(found.risks)} {'risk' if len(found.risks) == 1 else 'risks'}, {which}.")
    return " ".join(said)


def _risk_as_json(risk: Found) -> Mapping[str, Any]:
    return {
        "risk": risk.risk,
        "severity": risk.severity,
        "what": risk.what,
        "fix": risk.fix,
        "rows": risk.n_rows,
        "places": [{"file": place.file, "line": place.line} for place in risk.places],
    }
