"""Unsupervised tuning: every token of a raw text carries loss."""

from __future__ import annotations

from typing import ClassVar

from tunesmith.errors import DataError, Fault
from tunesmith.recipe import Part
from tunesmith.text.example import Example, Tokens
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
            DataError: `objective/max-length`, when no token fits beside the one before it.
        """
        if max_length < 2:
            what = f"max_length is {max_length}, and a target needs a token before it"
            raise DataError(Fault("objective/max-length", what, fix="set run.max_length: 2 or more"))
        ids = list(text.prompt(example.text).ids)
        end = text.tokenizer.eos_token_id
        if end is not None and ids[-1:] != [end]:
            ids.append(int(end))
        starts = range(0, max(1, len(ids) - 1), max_length - 1)
        pieces = (tuple(ids[start : start + max_length]) for start in starts)
        return [Tokens(piece, (0.0, *(1.0,) * (len(piece) - 1))) for piece in pieces if len(piece) > 1]
