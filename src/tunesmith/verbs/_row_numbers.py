"""What rows hold, in running numbers: turns, roles, scripts, answers that repeat, system prompts, tools."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tunesmith import files
from tunesmith.text.example import Example
from tunesmith.text.scripts import count_letters
from tunesmith.verbs._lengths import Lengths

MOST_ANSWERS = 200  # different ones, beyond which they are no labels
LONGEST_ANSWER = 200  # characters of a label
MOST_PROMPTS = 100_000  # system prompts that are told apart
N_PROMPTS_SHOWN = 5


class Answers:
    """The answers, as long as they are few and short, as labels are."""

    def __init__(self) -> None:
        self._counted: Counter[str] = Counter()
        self._are_labels = True

    def see(self, answer: str) -> None:
        """One more answer that is learnt."""
        if not self._are_labels:
            return
        self._counted[answer] += 1
        if len(answer) > LONGEST_ANSWER or len(self._counted) > MOST_ANSWERS:
            self._are_labels = False
            self._counted.clear()

    @property
    def counts(self) -> tuple[tuple[str, int], ...]:
        """Each answer with how often it is given, the most frequent first; empty where they do not repeat."""
        repeat = 2 * len(self._counted) <= self._counted.total()
        return tuple(self._counted.most_common()) if self._are_labels and repeat else ()


class SystemPrompts:
    """How many rows have a system prompt, and how many different ones there are; the first few in words."""

    def __init__(self) -> None:
        self.n_rows = 0
        self._known: set[bytes] = set()
        self._first: dict[bytes, tuple[str, int]] = {}

    def see(self, prompt: str) -> None:
        """The system prompt of one more row that has one."""
        self.n_rows += 1
        name = bytes.fromhex(files.sha256_of(prompt)[:24])
        if len(self._known) < MOST_PROMPTS:
            self._known.add(name)
        if name in self._first or len(self._first) < N_PROMPTS_SHOWN:
            text, n = self._first.get(name, (prompt, 0))
            self._first[name] = (text, n + 1)

    @property
    def n_different(self) -> int | None:
        """How many there are; None where they are too many to tell apart."""
        return len(self._known) if len(self._known) < MOST_PROMPTS else None

    @property
    def first(self) -> tuple[tuple[str, int], ...]:
        """Those that came first, with the rows that have them."""
        return tuple(self._first.values())


class RowNumbers:
    """What the usable rows hold, one by one, in bounded memory."""

    def __init__(self) -> None:
        self.n = 0
        self.turns = Lengths()
        self.characters = Lengths()
        self.roles: Counter[str] = Counter()
        self.letters: Counter[str] = Counter()
        self.answers = Answers()
        self.system_prompts = SystemPrompts()
        self.n_with_tools = 0
        self.n_with_calls = 0

    def see(self, example: Example) -> None:
        """One more row."""
        self.n += 1
        if example.is_chat:
            self._see_chat(example)
        else:
            self.characters.add(len(example.text))
            count_letters(example.text, self.letters)

    def _see_chat(self, example: Example) -> None:
        said = [str(turn.get("content") or "") for turn in example.messages]
        self.turns.add(len(said))
        self.characters.add(sum(map(len, said)))
        count_letters("\n".join(said), self.letters)
        self.roles.update(turn["role"] for turn in example.messages)
        for words, learnt in zip(said, example.learn, strict=True):
            if learnt:
                self.answers.see(words)
        if example.messages[0]["role"] == "system":
            self.system_prompts.see(said[0])
        self.n_with_tools += bool(example.tools)
        self.n_with_calls += any("tool_calls" in turn for turn in example.messages)

    @property
    def n_shared_words(self) -> int:
        """Words of the system prompt that all rows begin with; 0 where there is none."""
        prompts = self.system_prompts
        is_shared = prompts.n_different == 1 and prompts.n_rows == self.n
        return len(prompts.first[0][0].split()) if is_shared else 0

    @property
    def scripts(self) -> dict[str, float]:
        """The share of each script in all letters, the largest first."""
        total = self.letters.total()
        return {name: n / total for name, n in self.letters.most_common() if n}

    def as_json(self) -> dict[str, Any]:
        """The same for programs; keys as `docs/json.md` promises."""
        prompts = self.system_prompts
        return {
            "turns": self.turns.as_json(),
            "characters": self.characters.as_json(),
            "roles": dict(self.roles.most_common()),
            "scripts": {name: round(share, 4) for name, share in self.scripts.items()},
            "answers": [{"answer": answer, "count": n} for answer, n in self.answers.counts],
            "system_prompts": {"rows": prompts.n_rows, "different": prompts.n_different},
            "rows_with_tools": self.n_with_tools,
            "rows_with_tool_calls": self.n_with_calls,
        }
