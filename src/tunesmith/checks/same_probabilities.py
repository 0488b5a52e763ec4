from __future__ import annotations

from typing import ClassVar

from tunesmith.checks._bounds import QUANTISED, logprob_bound
from tunesmith.checks._contract import Case, Look
from tunesmith.checks._positions import first_positions, measured, need_places, places, positions


class SameProbabilities:
    """The next token has the same probabilities.

    For weights kept as they are: the largest difference of a log-probability, over the reference's ten likeliest first
    tokens of each answer. For quantised weights: the mean KL, also along the reference's answers.

    A place where the runtime lists too few tokens can only say no.

    Why it matters: it sees a lost scale, a wrong rotary base or a swapped head long before an answer shows it.
    """

    kind: ClassVar[str] = "same_probabilities"
    asks: ClassVar[str] = "are the next token's probabilities the same?"

    def look(self, case: Case) -> Look:
        """Compares distributions."""
        return _by_kl(case) if case.quantised else _by_difference(case)


def _by_difference(case: Case) -> Look:
    bound = logprob_bound(case.variant.precision, case.n_layers)
    prompts = first_positions(case)
    told = measured(places(case, prompts))
    n_covered = sum(one.is_covered for one in told)
    worst = max(0.0, *(one.difference for one in told))
    if worst <= bound:
        need_places(n_covered, len(prompts))
    why = f"largest difference over {n_covered} of {len(prompts)} places, in nats"
    return Look("yes" if worst <= bound else "no", round(worst, 7), round(bound, 5), why)


def _by_kl(case: Case) -> Look:
    bound = QUANTISED[case.variant.precision].kl
    prompts = positions(case)
    told = measured(places(case, prompts))
    least = sum(one.kl for one in told) / len(told)
    if least > bound:
        return Look(
            "no", round(least, 5), bound, f"mean KL over {len(told)} of {len(prompts)} places at least, in nats"
        )
    covered = [one.kl for one in told if one.is_covered]
    need_places(len(covered), len(prompts))
    mean = sum(covered) / len(covered)
    why = f"mean KL over {len(covered)} of {len(prompts)} places, in nats"
    return Look("yes" if mean <= bound else "no", round(mean, 5), bound, why)
