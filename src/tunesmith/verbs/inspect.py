from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from tunesmith import rooms
from tunesmith.errors import Fault, RecipeError
from tunesmith.formats._reading import Reading, read
from tunesmith.objectives._prepare import Prepared, prepare
from tunesmith.recipe import Options
from tunesmith.text.example import Example, Tokens
from tunesmith.text.template import Text

N_SHOWN = 3
Pieces = tuple[tuple[str, bool], ...]
"""A text in pieces, each with whether it is learnt."""


@dataclass(frozen=True)
class Shown:
    """A usable row, or one of the `parts` that it is learnt in; where it stands, and its text."""

    file: str
    line: int
    part: int
    parts: int
    pieces: Pieces

    @property
    def where(self) -> str:
        """The place in words: `chats.jsonl, line 17, part 2 of 3`."""
        return f"{self.file}, line {self.line}" + (f", part {self.part} of {self.parts}" if self.parts > 1 else "")


@dataclass(frozen=True)
class Inspection:
    """What is in the data: its format, how many rows can be learnt from, every fault, and the first ones as text.

    The token counts are None where no model was named. `shown` holds the first usable rows as they are learnt from:
    rendered and token by token with a model, else the messages as they stand.
    """

    format: str
    n_rows: int
    n_usable: int
    n_prompt_tokens: int | None
    n_learnt_tokens: int | None
    faults: tuple[Fault, ...]
    shown: tuple[Shown, ...]

    def as_json(self) -> Mapping[str, Any]:
        """The same for programs; keys as `docs/json.md` promises."""
        counted = {"prompt": self.n_prompt_tokens, "learnt": self.n_learnt_tokens}
        keys = ("code", "file", "line", "key", "what", "fix")
        return {
            "format": self.format,
            "rows": self.n_rows,
            "usable": self.n_usable,
            "tokens": None if self.n_learnt_tokens is None else counted,
            "faults": [{key: getattr(fault, key) for key in keys} for fault in self.faults],
        }


def inspect(
    data: str | Sequence[str],
    *,
    format: str | None = None,  # the word of the recipe
    model: str | None = None,
    max_length: int | None = None,
) -> Inspection:
    """What is in the data: every fault with its line, token counts, and which text is learnt.

    Args:
        data: files, globs or folders.
        format: how a row is read; found from the rows when left out.
        model: counts tokens and renders as this model does: Hub id, folder, .gguf file, or bundle:NAME.
        max_length: tokens an example may have; what a plan would choose when left out.

    Raises:
        RecipeError: there is no such format; `inspect/max-length`, when it is below 1.
        PlanError: `plan/too-long`, when it is more than the model attends to.
        SourceError: the model cannot be had.
    """
    if max_length is not None and max_length < 1:
        what = f"max_length is {max_length}, and an example has one token at least"
        raise RecipeError(Fault("inspect/max-length", what, fix="give 1 or more, or leave it out"))
    reading = read(data, format)
    if model is None:
        shown = tuple(Shown(one.file, one.line, 1, 1, _plain(one)) for one in reading.examples[:N_SHOWN])
        return Inspection(reading.format, reading.n_rows, len(reading.examples), None, None, reading.faults, shown)
    from tunesmith.learn.settings import longest
    from tunesmith.sources._find import source_of

    facts = source_of(model).facts(model)
    most = longest(Options(max_length=max_length or "auto"), facts, in_pieces=reading.format == "text")
    return _with_model(reading, Text.read(facts.folder), int(most.value))


def _with_model(reading: Reading, text: Text, max_length: int) -> Inspection:
    objective = rooms.find("objectives", "uft" if reading.format == "text" else "sft")()
    prepared = prepare(reading.examples, objective, text, max_length)
    return Inspection(
        reading.format,
        reading.n_rows,
        prepared.n_examples,
        prepared.n_tokens - prepared.n_learnt,
        prepared.n_learnt,
        (*reading.faults, *prepared.faults),
        tuple(islice(_shown(prepared, text), N_SHOWN)),
    )


def _shown(prepared: Prepared, text: Text) -> Iterator[Shown]:
    for example, made in prepared.rows:
        for part, tokens in enumerate(made, 1):
            yield Shown(example.file, example.line, part, len(made), _pieces(tokens, text))


def _plain(example: Example) -> Pieces:
    """Without a model: who says what."""
    if not example.is_chat:
        return ((example.text, True),)
    turns = zip(example.messages, example.learn, strict=True)
    said = (((f"{turn['role']}: ", False), (_words(turn), learnt), ("\n", False)) for turn, learnt in turns)
    return tuple(piece for pieces in said for piece in pieces)


def _words(turn: Mapping[str, Any]) -> str:
    calls = (f"{call['function']['name']}({call['function']['arguments']})" for call in turn.get("tool_calls", ()))
    return " ".join([turn["content"], *calls]).strip()


def _pieces(tokens: Tokens, text: Text) -> Pieces:
    """The tokens as text, cut where learning begins and ends."""
    pairs = zip(tokens.ids, tokens.weights, strict=True)
    runs = groupby(pairs, key=lambda pair: pair[1] > 0)
    return tuple((text.spell([one for one, _ in run]), learnt) for learnt, run in runs)
