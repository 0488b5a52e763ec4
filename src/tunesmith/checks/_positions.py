"""Where distributions are compared: the first token of each answer, and places along the reference's own answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from tunesmith.checks._contract import Case
from tunesmith.errors import CannotTell
from tunesmith.text.example import Prompt

Told = tuple[Mapping[int, float], Mapping[int, float]]
ALONG = (1, 2, 4, 8, 16)  # tokens into the reference's answer


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


def pairs(case: Case, places: Sequence[Prompt], top: int, listed: int) -> list[Told]:
    """The reference's and the other runtime's log-probabilities, at the places where the other can tell them.

    Raises:
        CannotTell: it can at none of them.
    """
    told: list[Told] = []
    why = ""
    for place in places:
        try:
            seen = case.other.logprobs(place, listed)
        except CannotTell as missing:
            why = missing.why
            continue
        told.append((case.reference.logprobs(place, top), seen))
    if not told:
        raise CannotTell(why)
    return told


def kl(reference: Mapping[int, float], other: Mapping[int, float]) -> float:
    """KL(reference || other) in nats over the reference's tokens, all further ones taken as one.

    A token that `other` does not list counts with the least probability it lists, so it is never too large for that.
    """
    floor = min(other.values())
    listed = [(p, other.get(token, floor)) for token, p in reference.items()]
    total = sum(math.exp(p) * (p - q) for p, q in listed)
    rest_p = 1.0 - sum(math.exp(p) for p, _ in listed)
    rest_q = 1.0 - sum(math.exp(q) for _, q in listed)
    if rest_p > 1e-9 and rest_q > 1e-9:
        total += rest_p * math.log(rest_p / rest_q)
    return max(0.0, total)


def best(logprobs: Mapping[int, float]) -> int:
    """The likeliest token."""
    return max(logprobs, key=lambda token: logprobs[token])


def lead(logprobs: Mapping[int, float]) -> float:
    """How far the likeliest token is ahead of the next, in nats."""
    return next((a - b for a, b in pairwise(sorted(logprobs.values(), reverse=True))), math.inf)
