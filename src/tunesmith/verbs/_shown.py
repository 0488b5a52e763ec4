"""Rows as they are learnt from, to be shown: where they stand, and their text in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from tunesmith.text.example import Example, Tokens
from tunesmith.text.spelled import Piece, pieces
from tunesmith.text.template import Text

MOST_TOKENS = 1500  # of a row, one by one


Pieces = tuple[tuple[str, bool], ...]
"""A text in pieces, each with whether it is learnt."""


@dataclass(frozen=True)
class Shown:
    """A usable row, or one of the `parts` that it is learnt in; where it stands, and its text.

    `tokens` are the first ones of it, one by one, where there is a model; `n_left` is how many more there are.
    """

    file: str
    line: int
    part: int
    parts: int
    pieces: Pieces
    tokens: tuple[Piece, ...] = ()
    n_left: int = 0

    @property
    def where(self) -> str:
        """The place in words: `chats.jsonl, line 17, part 2 of 3`."""
        return f"{self.file}, line {self.line}" + (f", part {self.part} of {self.parts}" if self.parts > 1 else "")


def shown(rows: Sequence[tuple[Example, Sequence[Tokens]]], text: Text | None, most: int) -> tuple[Shown, ...]:
    """The first of the rows, each as it is learnt from; without a text, as it stands."""
    return tuple(islice(_shown(rows, text), most))


def _shown(rows: Sequence[tuple[Example, Sequence[Tokens]]], text: Text | None) -> Iterator[Shown]:
    for example, made in rows:
        if text is None:
            yield Shown(example.file, example.line, 1, 1, _plain(example))
        else:
            for part, tokens in enumerate(made, 1):
                yield _tokenized(example, part, len(made), tokens, text)


def _tokenized(example: Example, part: int, parts: int, tokens: Tokens, text: Text) -> Shown:
    first = tuple(pieces(tokens.ids[:MOST_TOKENS], tokens.weights, text))
    left = max(0, len(tokens.ids) - MOST_TOKENS)
    return Shown(example.file, example.line, part, parts, _pieces(tokens, text), first, left)


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
