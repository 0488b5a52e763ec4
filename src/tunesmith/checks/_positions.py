"""Where distributions are compared: the first token of each answer, and places along the reference's own answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tunesmith.checks._contract import Case
from tunesmith.errors import CannotTell
from tunesmith.text.example import Prompt

ALONG = (1, 2, 4, 8, 16)  # tokens into the reference's answer
TOP = 10  # tokens of the reference that are compared at each place
LISTED = 100  # tokens that the other runtime is asked for, so that those ten are among them
ENOUGH = 0.9  # share of those ten's probability that the other runtime has to list
LEAST = 1e-4  # what is left beside a list is known no better: its rounded numbers are summed
FLOAT32_LEAST = -87.0  # log of its smallest normal number: below that, a probability has lost its places or is nothing
FEWEST_PLACES = 3  # the built-in prompts alone give four or more


@dataclass(frozen=True)
class Place:
    """The reference's and the other runtime's log-probabilities of the next token, as far as each lists them."""

    wanted: Mapping[int, float]
    seen: Mapping[int, float]
    only_ranks: bool = False
    """Whether the other runtime tells which token is likelier, and not by how much."""

    @property
    def is_covered(self) -> bool:
        """Whether the other runtime lists so much of what the reference expects that likeness can be told."""
        listed = sum(math.exp(p) for token, p in self.wanted.items() if token in self.seen)
        return listed >= ENOUGH * sum(math.exp(p) for p in self.wanted.values())

    @property
    def most_unlisted(self) -> float:
        """The largest log-probability that a token the other runtime does not list can have there."""
        left = 1.0 - sum(math.exp(q) for q in self.seen.values())
        return min(min(self.seen.values()), math.log(max(left, LEAST)))

    @property
    def difference(self) -> float:
        """The largest difference of a log-probability; of a token that is not listed, the least that it can be."""
        most = self.most_unlisted
        return max(abs(p - self.seen[one]) if one in self.seen else p - most for one, p in self.wanted.items())

    @property
    def kl(self) -> float:
        """KL(reference || other) in nats, all tokens beyond the reference's taken as one.

        It is the least that it can be: a token that is not listed has the most that it can have.
        """
        most = self.most_unlisted
        total = sum(math.exp(p) * (p - self.seen.get(one, most)) for one, p in self.wanted.items())
        rest_p = 1.0 - sum(math.exp(p) for p in self.wanted.values())
        rest_q = 1.0 - sum(math.exp(self.seen[one]) for one in self.wanted if one in self.seen)
        if rest_p > 1e-9 and rest_q > 1e-9:
            total += rest_p * math.log(rest_p / rest_q)
        return max(0.0, total)


def first_positions(case: Case) -> list[Prompt]:
    """The prompts: what comes next is the first token of the answer."""
    return [case.text.prompt(ask) for ask in case.asks]


def positions(case: Case) -> list[Prompt]:
    """The prompts, and the prompts with a piece of the reference's answer behind them."""
    return [place for ask in case.asks for place in _along(case, case.text.prompt(ask))]


def _along(case: Case, prompt: Prompt) -> Iterator[Prompt]:
    answer = case.answer_ids(prompt)
    for n in (0, *(n for n in ALONG if n < len(answer))):
        ids = (*prompt.ids, *answer[:n])
        words = case.text.tokenizer.decode(
            list(answer[:n]), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        place = Prompt(prompt.text + str(words), ids)
        # A runtime that takes text can only be asked where the text is read back as the same tokens.
        if case.takes_ids or n == 0 or tuple(case.text.encode(place.text)) == ids:
            yield place


def places(case: Case, prompts: Sequence[Prompt]) -> list[Place]:
    """What both say comes next, at the prompts where the other runtime can tell it.

    Raises:
        CannotTell: it can at none of them.
    """
    told: list[Place] = []
    why = ""
    for prompt in prompts:
        try:
            seen = case.other.logprobs(prompt, LISTED)
        except CannotTell as missing:
            why = missing.why
            continue
        wanted = case.reference.logprobs(prompt, TOP)
        told.append(_as_ratios(case, wanted, seen) if case.text.never and not case.takes_ids else Place(wanted, seen))
    if not told:
        raise CannotTell(why)
    return told


def _as_ratios(case: Case, wanted: Mapping[int, float], seen: Mapping[int, float]) -> Place:
    """Of a runtime that tells probabilities before it suppresses tokens, and names none that writes nothing.

    The rest is compared by its ratios: the tokens that both list get the reference's probability in all.
    """
    import numpy as np

    special = set(case.text.tokenizer.all_special_ids) | case.text.end_ids
    wanted = {one: value for one, value in wanted.items() if one not in special}
    told = {one: value for one, value in seen.items() if value >= FLOAT32_LEAST}
    if not told:
        return Place(wanted, seen, only_ranks=True)
    both = [one for one in wanted if one in told]
    if not both:
        return Place(wanted, told)
    shift = float(np.logaddexp.reduce([wanted[one] for one in both]) - np.logaddexp.reduce([told[one] for one in both]))
    return Place(wanted, {one: value + shift for one, value in told.items()})


def measured(told: Sequence[Place]) -> list[Place]:
    """Those with probabilities.

    Raises:
        CannotTell: there is none.
    """
    found = [one for one in told if not one.only_ranks]
    if told and not found:
        raise CannotTell(
            "what it suppresses, such as a soft prompt, has all of the probability that this runtime tells"
        )
    return found


def need_places(n_told: int, n_asked: int) -> None:
    """Raises `CannotTell` where too few places could be told for a verdict."""
    if n_told < FEWEST_PLACES:
        raise CannotTell(f"the runtime tells enough of the probabilities at {n_told} of {n_asked} places only")


def best(logprobs: Mapping[int, float]) -> int:
    """The likeliest token."""
    return max(logprobs, key=lambda token: logprobs[token])


def lead(logprobs: Mapping[int, float]) -> float:
    """How far the likeliest token is ahead of the next, in nats."""
    return next((a - b for a, b in pairwise(sorted(logprobs.values(), reverse=True))), math.inf)
