"""What a model learns of rows, in running numbers: tokens, lengths, ends of turns, what is too long, what is shared."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.errors import Fault
from tunesmith.learn.families import Sharing, share_computed
from tunesmith.objectives._contract import Objective
from tunesmith.objectives._prepare import Weighed, weigh
from tunesmith.text.example import Example, Tokens
from tunesmith.text.template import Text
from tunesmith.verbs._drawn import Drawn
from tunesmith.verbs._lengths import Lengths

ROWS_A_STEP = 16  # what a plan takes for most data
N_STEPS = 32  # steps that are looked at: enough to know how alike the rows of a step begin
MOST_PLACES = 1000


@dataclass
class Ends:
    """Proof that the model learns to stop: answers, how many of them are learnt with their end, and where not."""

    tokens: tuple[str, ...]
    n_turns: int = 0
    n_learnt: int = 0
    missing: list[tuple[str, int]] = field(default_factory=list)

    def see(self, example: Example, n_turns: int, n_learnt: int) -> None:
        """One more row, with its answers and with how many of their ends carry loss."""
        self.n_turns += n_turns
        self.n_learnt += min(n_learnt, n_turns)
        if n_learnt < n_turns and len(self.missing) < MOST_PLACES:
            self.missing.append((example.file, example.line))

    def as_json(self) -> Mapping[str, Any]:
        """The same for programs; keys as `docs/json.md` promises."""
        return {
            "tokens": list(self.tokens),
            "turns": self.n_turns,
            "learnt": self.n_learnt,
            "not_learnt": [{"file": file, "line": line} for file, line in self.missing],
        }


def n_ends(made: Sequence[Tokens], end_ids: frozenset[int]) -> int:
    """How many end tokens carry loss. An answer has none inside, so each is the end of one."""
    return sum(weight > 0 and one in end_ids for row in made for one, weight in zip(row.ids, row.weights, strict=True))


def ends_in_end(made: Sequence[Tokens], end_ids: frozenset[int]) -> int:
    """1 where the last token of a text, perhaps of its last piece, is an end that carries loss; else 0."""
    last = made[-1]
    return int(last.weights[-1] > 0 and last.ids[-1] in end_ids)


@dataclass
class Long:
    """What the limit refuses or cuts: rows that are too long, each with its tokens, and texts that come in pieces."""

    max_length: int
    n_refused: int = 0
    refused: list[tuple[str, int, int]] = field(default_factory=list)
    n_in_pieces: int = 0

    def as_json(self) -> Mapping[str, Any]:
        """The same for programs; keys as `docs/json.md` promises."""
        rows = [{"file": file, "line": line, "tokens": n} for file, line, n in self.refused]
        return {
            "max_length": self.max_length,
            "refused": self.n_refused,
            "rows": rows,
            "in_pieces": self.n_in_pieces,
        }


class Learnt:
    """What is learnt of the rows, one by one, in bounded memory."""

    def __init__(self, objective: Objective, text: Text, max_length: int, window: int | None) -> None:
        self.objective, self.text, self.window = objective, text, window
        self.n_rows = self.n_prompt = self.n_learnt = 0
        self.lengths, self.learnt_lengths = Lengths(), Lengths()
        self.ends = Ends(text.end_tokens)
        self.long = Long(max_length)
        self.unwritten: Counter[str] = Counter()
        self._alike: Drawn[array[int]] = Drawn(ROWS_A_STEP * N_STEPS)

    def see(self, example: Example) -> Weighed:
        """One more row, as it is learnt."""
        weighed = weigh(example, self.objective, self.text, self.long.max_length)
        self.unwritten.update(weighed.unwritten)
        if weighed.n_tokens is not None:
            self.long.n_refused += 1
            if len(self.long.refused) < MOST_PLACES:
                self.long.refused.append((example.file, example.line, weighed.n_tokens))
        if weighed.made:
            self._count(example, weighed.made)
        elif _has_no_end(weighed.faults):
            self.ends.see(example, _n_answers(example), 0)
        return weighed

    def refuse(self, example: Example) -> tuple[Fault, ...]:
        """What is wrong with a row that is held out: it is not learnt from, and counts for nothing else."""
        return weigh(example, self.objective, self.text, self.long.max_length).faults

    def _count(self, example: Example, made: Sequence[Tokens]) -> None:
        n_tokens = sum(len(one.ids) for one in made)
        n_learnt = sum(sum(weight > 0 for weight in one.weights) for one in made)
        self.n_rows += 1
        self.n_prompt += n_tokens - n_learnt
        self.n_learnt += n_learnt
        self.lengths.add(n_tokens)
        self.learnt_lengths.add(n_learnt)
        found = n_ends if example.is_chat else ends_in_end
        self.ends.see(example, _n_answers(example), found(made, self.text.end_ids))
        self.long.n_in_pieces += not example.is_chat and len(made) > 1
        for one in made:
            self._alike.see(array("i", one.ids))

    @property
    def n_looked_at(self) -> int:
        """Sequences from which `share_saved` is known."""
        return min(self._alike.n_seen, self._alike.size)

    def share_saved(self) -> float:
        """The share of the tokens that need not be computed, as rows of a step begin alike; 0 where none came."""
        ids = self._alike.shuffled
        steps = [range(start, min(start + ROWS_A_STEP, len(ids))) for start in range(0, len(ids), ROWS_A_STEP)]
        families = Sharing(self.window).of_steps(steps, ids)
        return 1 - share_computed(families, [len(one) for one in ids]) if ids else 0.0

    def as_json(self) -> Mapping[str, Any]:
        """Lengths and what is shared, for programs; keys as `docs/json.md` promises."""
        shared = {"share": round(self.share_saved(), 4), "rows": self.n_looked_at, "rows_a_step": ROWS_A_STEP}
        return {
            "tokens": self.lengths.as_json(),
            "learnt_tokens": self.learnt_lengths.as_json(),
            "shared_beginning": shared,
        }


def _n_answers(example: Example) -> int:
    return sum(example.learn) if example.is_chat else 1


def _has_no_end(faults: Sequence[Fault]) -> bool:
    return any(fault.code == "objective/no-end-token" for fault in faults)
