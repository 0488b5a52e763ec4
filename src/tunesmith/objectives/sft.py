"""Supervised tuning: the answers of a conversation carry loss, the rest is only read."""

from __future__ import annotations

from typing import ClassVar

from tunesmith.errors import Fault
from tunesmith.objectives._contract import TooLongError
from tunesmith.recipe import Part
from tunesmith.text.example import Example, Tokens
from tunesmith.text.mask import weigh_turns
from tunesmith.text.template import Text


class Sft(Part):
    """Learn the assistant's turns, each with its end token. For chat rows."""

    kind: ClassVar[str] = "sft"

    def refuse(self, example: Example, text: Text) -> list[Fault]:
        """Raw text, and bases that have no chat template."""
        if not example.is_chat:
            what = "a raw text has no turns, and sft learns the assistant's"
            fix = "set objective: uft, or write the rows as messages"
            return [Fault("objective/raw-text", what, fix=fix, file=example.file, line=example.line or None)]
        if not text.has_template:
            what = "the base has no chat template, so a conversation cannot be written as it reads them"
            fix = "choose the instruct or chat model of the same family, or set objective: uft and give raw text"
            return [Fault("objective/no-template", what, fix=fix)]
        return []

    def weigh(self, example: Example, text: Text, max_length: int) -> list[Tokens]:
        """One sequence, or several where the template rewrites turns that are past; never cut.

        Raises:
            TooLongError: `data/too-long`, when it has more than `max_length` tokens.
            DataError: the faults of `weigh_turns`.
        """
        made = weigh_turns(example, text)
        longest = max((len(one.ids) for one in made), default=0)
        if longest > max_length:
            what = f"{longest} tokens, and {max_length} is the limit: what is cut off would be neither read nor learnt"
            fix = f"shorten or split it, remove it, or set run.max_length: {longest} where the model reaches that far"
            place = {"file": example.file, "key": "messages"}
            raise TooLongError(Fault("data/too-long", what, fix=fix, line=example.line or None, **place), longest)
        return made
