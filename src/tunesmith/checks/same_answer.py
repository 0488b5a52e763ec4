from __future__ import annotations

import math
from typing import ClassVar

from tunesmith.checks._bounds import QUANTISED, logprob_bound
from tunesmith.checks._contract import Case, Look
from tunesmith.checks._positions import TOP, best, lead, need_places, places, positions
from tunesmith.text.example import Ask, Prompt


class SameAnswer:
    """The greedy answer is the same text.

    For weights kept as they are, every answer must be equal; one that parts from the reference at a place where the
    reference itself is undecided within rounding counts as equal. For quantised weights: how often the
    likeliest next token is the reference's, along its own answers.
    """

    kind: ClassVar[str] = "same_answer"
    asks: ClassVar[str] = "is the greedy answer the same?"

    def look(self, case: Case) -> Look:
        """Compares answers."""
        return _by_agreement(case) if case.quantised else _by_text(case)


def _by_text(case: Case) -> Look:
    wrong, ties = [], 0
    for ask in case.asks:
        wanted = case.wanted(ask)
        seen = case.other.answer(ask, case.max_tokens).text
        if seen.strip() == wanted.strip():
            continue
        if _is_tie(case, ask, seen):
            ties += 1
        else:
            wrong.append(f"should be {wanted[:60]!r}, is {seen[:60]!r}")
    n = len(case.asks)
    why = wrong[0] if wrong else f"{ties} of them parted at a tie" if ties else ""
    return Look("no" if wrong else "yes", f"{n - len(wrong)} of {n}", f"{n} of {n}", why)


def _is_tie(case: Case, ask: Ask, seen: str) -> bool:
    """Whether the reference was undecided at the token where the other answer parts from it."""
    prompt = case.text.prompt(ask)
    answer = case.answer_ids(prompt)
    n = 0
    while n < len(answer) and seen.startswith(case.text.decode(answer[: n + 1])):
        n += 1
    here = Prompt(prompt.text, (*prompt.ids, *answer[:n]))
    return lead(case.reference.logprobs(here, TOP)) <= 2 * logprob_bound(case.variant.precision, case.n_layers)


def _by_agreement(case: Case) -> Look:
    bound = QUANTISED[case.variant.precision].agreement
    prompts = positions(case)
    told = places(case, prompts)
    need_places(len(told), len(prompts))
    agreed = sum(best(one.wanted) == best(one.seen) for one in told)
    share = agreed / len(told)
    needed = math.floor(bound * len(told))  # of a few places one may differ: a share of them has no finer steps
    why = f"likeliest token the same at {agreed} of {len(told)} places"
    return Look("yes" if agreed >= needed else "no", round(share, 4), bound, why)
