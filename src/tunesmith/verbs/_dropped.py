"""Rows as a recipe lets them be learnt: with the system prompt that they begin with, or without."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from tunesmith import files, say
from tunesmith.errors import Fault
from tunesmith.machine import Chosen
from tunesmith.recipe import Data
from tunesmith.text.example import Example
from tunesmith.text.template import Text

N_LOOKED_AT = 64  # rows of which the tokens that they lose are counted


def as_learnt(data: Data, example: Example) -> Example:
    """A row as the recipe lets it be learnt."""
    return example.without_system() if data.system_prompt == "drop" else example


class Dropping:
    """What the rows lose, one by one, and what that leads to. Hashes are kept of them, and of a few the words."""

    def __init__(self, data: Data) -> None:
        self._data = data
        self.n_rows = self.n_with = 0
        self._looked_at: list[Example] = []
        self._alone: list[Example] = []
        self._said: dict[str, dict[str, set[str]]] = {}  # by what is asked, and by system prompt: the answers

    def see(self, example: Example) -> Example:
        """One more row to learn from, as it is learnt."""
        if self._data.system_prompt == "keep":
            return example
        self.n_rows += 1
        self.n_with += bool(example.n_system)
        if example.n_system and len(self._looked_at) < N_LOOKED_AT:
            self._looked_at.append(example)
        left = self.see_test(example)
        self._compare(example, left)
        return left

    def see_test(self, example: Example) -> Example:
        """One more held-out row, as its loss is told."""
        left = as_learnt(self._data, example)
        if left is not example and not any(left.learn):
            self._alone.append(example)
        return left

    def _compare(self, example: Example, left: Example) -> None:
        if not left.is_chat:
            return
        last = max(at for at, one in enumerate(left.messages) if one["role"] == "assistant")
        asked, answer = (files.sha256_of([part, left.tools]) for part in (left.messages[:last], left.messages[last]))
        system = files.sha256_of(example.messages[: example.n_system])
        self._said.setdefault(asked, {}).setdefault(system, set()).add(answer)

    def told(self, text: Text | None) -> Iterator[Chosen]:
        """How many rows lose one, and how many tokens that saves; what will go wrong is warned of."""
        if self._data.system_prompt == "keep" or not self.n_rows:
            return
        if not self.n_with:
            say.warn("data.system_prompt is drop, and no row begins with a system prompt: nothing is dropped")
            return
        n = sum(len(said) > 1 and len(set(map(frozenset, said.values()))) > 1 for said in self._said.values())
        if n:
            say.warn(
                f"{n:,} questions have another answer behind another system prompt, and without it nothing tells "
                "which: set data.system_prompt: keep, or keep one answer of each"
            )
        why = "as the recipe says: what it asks for is learnt, and it need not be sent from then on"
        if text is not None and (fewer := _fewer(text, self._looked_at)):
            why += f"; {fewer:,.0f} tokens fewer a row"
        yield Chosen("system_prompt", f"dropped from {self.n_with:,} of {self.n_rows:,} rows", why)

    def refusals(self) -> Iterator[Fault]:
        """Rows that would be an answer with nothing before it."""
        if self._alone:
            first, n = self._alone[0], len(self._alone)
            what = f"{n:,} rows ask nothing but in their system prompt, and data.system_prompt is drop"
            if n == 1:
                what = "a row asks nothing but in its system prompt, and data.system_prompt is drop"
            fix = "set data.system_prompt: keep, or ask for the answer in a user message"
            yield Fault("plan/only-a-system-prompt", what, fix=fix, file=first.file, line=first.line or None)


def _fewer(text: Text, examples: list[Example]) -> float:
    """Tokens that a row is shorter by, on average; a template may write a system prompt of its own instead."""
    try:
        return fmean(_n_tokens(text, one) - _n_tokens(text, one.without_system()) for one in examples)
    except Exception:  # noqa: BLE001  # a template is a program of someone else; what it refuses is said of the rows
        return 0.0


def _n_tokens(text: Text, example: Example) -> int:
    return len(text.encode(text.render(example.messages, example.tools)))
