"""A row as the members of this room look at it: what several of them ask of it is made once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunesmith.risks._contract import Place
from tunesmith.text.example import Example, Message


@dataclass(slots=True)
class Row:
    """A usable row: its example, where it stands, whether in a test file, and its number in the data, from 0."""

    example: Example
    where: Place
    test: bool
    number: int
    n_before: int = field(init=False)
    """Turns before the last answer that is learnt."""
    answer: str = field(init=False)
    """That answer without blanks at its ends; empty for a raw text, and where it only calls tools."""
    frame: str = field(init=False)
    """What many rows may share word for word: what the system says, and the tools."""
    text: str = field(init=False)
    """All else: the raw text, or what user, assistant and tools say, with thoughts and the arguments of calls."""

    def __post_init__(self) -> None:
        one = self.example
        self.n_before = max((at for at, learnt in enumerate(one.learn) if learnt), default=0)
        self.answer = one.messages[self.n_before]["content"].strip() if one.messages else ""
        if not one.messages:
            self.frame, self.text = "", one.text
            return
        frame: list[str] = []
        texts: list[str] = []
        for turn in one.messages:
            (frame if turn["role"] == "system" else texts).append(turn["content"])
            if len(turn) > 2:
                texts += _further(turn)
        if one.tools:
            frame.append(json.dumps(one.tools, ensure_ascii=False, default=str))
        self.frame, self.text = "\n".join(frame), "\n".join(texts)

    @property
    def before(self) -> tuple[Message, ...]:
        """The turns before the last answer that is learnt."""
        return self.example.messages[: self.n_before]


def _further(turn: Mapping[str, Any]) -> list[str]:
    said = [turn["reasoning_content"]] if turn.get("reasoning_content") else []
    calls = [json.dumps(call["function"], ensure_ascii=False, default=str) for call in turn.get("tool_calls", ())]
    return said + calls
