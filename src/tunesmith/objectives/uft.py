"""Unsupervised tuning: every token of a raw text carries loss."""

from __future__ import annotations

from typing import ClassVar

from tunesmith.errors import DataError, Fault
from tunesmith.recipe import Part
from tunesmith.text.example import Example, Tokens
from tunesmith.text.mask import end_of
from tunesmith.text.template import Text


class Uft(Part):
    """Learn all of a text, its end included. For raw text rows and text files."""

    kind: ClassVar[str] = "uft"

    def refuse(self, example: Example, text: Text) -> list[Fault]:
        """Conversations."""
        if not example.is_chat:
            return []
        what = "a conversation, and uft learns raw text: the user's words would be learnt as well"
        fix = "set objective: sft"
        return [Fault("objective/chat-rows", what, fix=fix, file=example.file, line=example.line or None)]

    def weigh(self, example: Example, text: Text, max_length: int) -> list[Tokens]:
        """The text in pieces of at most `max_length` tokens; each token is learnt once.

        A piece begins with the last token of the one before it, so that its first target has something before it. The
        first token of the text (BOS where the tokenizer adds one) has nothing before it and is never learnt.

        Raises:
            DataError: `objective/max-length`, when no token fits beside the one before it; `objective/no-end-token`;
                `objective/nothing-follows`, when the text is a single token.
        """
        if max_length < 2:
            what = f"max_length is {max_length}, and a target needs a token before it"
            raise DataError(Fault("objective/max-length", what, fix="set run.max_length: 2 or more"))
        ids, end = text.raw(example.text), end_of(text)
        if ids[-1:] != [end]:
            ids.append(end)
        if len(ids) < 2:
            what = "the text is a single token, and a target needs a token before it"
            fix = "lengthen it, or remove the row"
            raise DataError(
                Fault("objective/nothing-follows", what, fix, example.file, example.line or None, key="text")
            )
        full = (0.0, *(1.0,) * (min(max_length, len(ids)) - 1))
        pieces = (tuple(ids[start : start + max_length]) for start in range(0, len(ids) - 1, max_length - 1))
        return [Tokens(piece, full[: len(piece)]) for piece in pieces]
