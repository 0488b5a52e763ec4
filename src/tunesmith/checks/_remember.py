"""A runtime that is asked the same thing once: several checks and many files share the reference's answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tunesmith.checks._contract import Reference
from tunesmith.runtimes._contract import Answer, Opened
from tunesmith.text.example import Ask, Prompt

T = TypeVar("T")


class Remembered:
    """An opened runtime with a memory; what was asked with a larger `top` answers for a smaller one."""

    def __init__(self, opened: Opened | Reference) -> None:
        self._opened = opened
        self._known: dict[tuple[Any, ...], Any] = {}
        self._listed: dict[Prompt, tuple[int, Mapping[int, float]]] = {}

    def _once(self, key: tuple[Any, ...], ask: Callable[[], T]) -> T:
        if key not in self._known:
            self._known[key] = ask()
        return self._known[key]  # type: ignore[no-any-return]

    def render(self, ask: Ask) -> str:
        """See `Opened.render`."""
        return self._once(("render", _key(ask)), lambda: self._opened.render(ask))

    def tokens(self, text: str) -> Sequence[int] | int:
        """See `Opened.tokens`."""
        return self._once(("tokens", text), lambda: self._opened.tokens(text))

    def logprobs(self, prompt: Prompt, top: int) -> Mapping[int, float]:
        """See `Opened.logprobs`."""
        asked, found = self._listed.get(prompt, (0, {}))
        if asked < top:
            asked, found = self._listed[prompt] = top, self._opened.logprobs(prompt, top)
        return dict(sorted(found.items(), key=lambda one: -one[1])[:top])

    def answer(self, ask: Ask, max_tokens: int) -> Answer:
        """See `Opened.answer`."""
        return self._once(("answer", _key(ask), max_tokens), lambda: self._opened.answer(ask, max_tokens))

    def greedy(self, prompt: Prompt, max_tokens: int) -> Sequence[int]:
        """See `Reference.greedy`."""
        greedy = self._opened.greedy  # type: ignore[union-attr]
        return self._once(("greedy", prompt, max_tokens), lambda: greedy(prompt, max_tokens))


def _key(ask: Ask) -> str:
    return ask if isinstance(ask, str) else json.dumps([dict(message) for message in ask], ensure_ascii=False)
