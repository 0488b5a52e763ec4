"""What is learnt from or asked: a conversation or a raw text, before it is words of a template or numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Message = Mapping[str, Any]
"""One turn as chat templates take it: role, content, and where present name, tool_calls, tool_call_id."""

Ask = Sequence[Message] | str
"""What a runtime is asked: the turns so far, or the beginning of a raw text."""


SYSTEM = ("system", "developer")


def n_system(messages: Sequence[Message]) -> int:
    """How many turns of the system stand first."""
    return next((at for at, one in enumerate(messages) if one["role"] not in SYSTEM), len(messages))


@dataclass(frozen=True)
class Example:
    """One row: either a conversation or a raw text.

    `learn` says for each message whether it may carry loss (an assistant turn whose `weight` is not 0).
    `file` and `line` (from 1) say where it came from.
    """

    messages: tuple[Message, ...] = ()
    learn: tuple[bool, ...] = ()
    tools: tuple[Mapping[str, Any], ...] = ()
    text: str = ""
    file: str = ""
    line: int = 0
    n_left_out: int = field(default=0, compare=False)
    """Turns of the row that stood before the first of `messages`."""

    @property
    def is_chat(self) -> bool:
        """Whether it is a conversation."""
        return bool(self.messages)

    @property
    def n_system(self) -> int:
        """How many turns of the system stand first."""
        return n_system(self.messages)

    def without_system(self) -> Example:
        """The same without them. An answer that then opens the conversation is not learnt, as in any row."""
        n = self.n_system
        if not n:
            return self
        opens = any(one["role"] == "assistant" for one in self.messages[n : n + 1])
        learn = (False, *self.learn[n + 1 :]) if opens else self.learn[n:]
        return replace(self, messages=self.messages[n:], learn=learn, n_left_out=self.n_left_out + n)


@dataclass(frozen=True)
class Tokens:
    """An example as numbers: `ids` (T,) and the loss weight of each as a target (T,), in [0, 1]."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]

    def after(self, lead: tuple[int, ...]) -> Tokens:
        """The same example with other tokens before it, none of which is a target."""
        return Tokens((*lead, *self.ids), (*(0.0 for _ in lead), *self.weights)) if lead else self


@dataclass(frozen=True)
class Prompt:
    """What a model is given before it answers: the rendered text, and its token ids (T,)."""

    text: str
    ids: tuple[int, ...]
