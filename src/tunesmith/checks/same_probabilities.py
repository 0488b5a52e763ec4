from __future__ import annotations

from typing import ClassVar

from tunesmith.checks._bounds import QUANTISED, logprob_bound
from tunesmith.checks._contract import Case, Look
from tunesmith.checks._positions import first_positions, kl, pairs, positions

TOP = 10  # tokens of the reference that are compared at each place
LISTED = 100  # tokens that the other runtime is asked for, so that those ten are among them


class SameProbabilities:
    """The next token has the same probabilities.

    For weights kept as they are: the largest difference of a log-probability, over the reference's ten likeliest first
    tokens of each answer. For quantised weights: the mean KL, also along the reference's answers.

    Why it matters: it sees a lost scale, a wrong rotary base or a swapped head long before an answer shows it.
    """

    kind: ClassVar[str] = "same_probabilities"
    asks: ClassVar[str] = "are the next token's probabilities the same?"

    def look(self, case: Case) -> Look:
        """Compares distributions."""
        return _by_kl(case) if case.quantised else _by_difference(case)


def _by_difference(case: Case) -> Look:
    bound = logprob_bound(case.variant.precision, case.n_layers)
    worst = 0.0
    for wanted, seen in pairs(case, first_positions(case), TOP, LISTED):
        floor = min(seen.values())
        # A token that is not listed has at most the least listed probability: only more than that is a difference.
        worst = max([worst, *(abs(p - seen[token]) if token in seen else p - floor for token, p in wanted.items())])
    return Look("yes" if worst <= bound else "no", round(worst, 7), round(bound, 5), "largest difference, in nats")


def _by_kl(case: Case) -> Look:
    bound = QUANTISED[case.variant.precision].kl
    measured = [kl(wanted, seen) for wanted, seen in pairs(case, positions(case), TOP, LISTED)]
    mean = sum(measured) / len(measured)
    return Look(
        "yes" if mean <= bound else "no", round(mean, 5), bound, f"mean KL over {len(measured)} places, in nats"
    )
