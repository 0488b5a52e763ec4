"""How sure a figure is, and whether two models differ: intervals and paired tests over rows, all at 95 %.

Seeded: the same rows give the same figures. `_many` bounds the time: a mean of very many rows needs fewer draws.

- Shares: Wilson (1927); the difference of two on the same rows: Newcombe (1998), method 10; its test: McNemar, exact.
- Other means: bootstrap over rows, BCa (Efron 1987); the test of a difference: random signs, exact for few rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVEL = 0.95
Z = NormalDist().inv_cdf((1 + LEVEL) / 2)  # 1.96
DRAWS = 10_000
AT_ONCE = 1 << 21  # numbers drawn at a time: 16 MB
IN_ALL = 1 << 26  # and for one figure: about a second
EXACT_ROWS = 16  # so many differences have 65,536 patterns of signs, which are all looked at

Verdict = Literal["better", "worse", "cannot_tell"]


@dataclass(frozen=True)
class Interval:
    """A mean over `n` rows, and the interval that holds the true one in 95 of 100 such samples.

    One row alone tells nothing about a mean that is no share: its interval is infinite.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference:
    """What one model has more than another on the same `n` rows, with its interval.

    `p`: how likely so large a difference is where there is none. `more` and `less`: rows on which its score is higher,
    and lower; on the others both are the same.
    """

    value: float
    low: float
    high: float
    n: int
    p: float
    more: int
    less: int


def share(n_such: int, n: int) -> Interval:
    """The share of such rows, with Wilson's interval; it keeps inside 0 to 1 and is sound from one row on.

    Raises:
        ValueError: no rows.
    """
    if n <= 0 or not 0 <= n_such <= n:
        raise ValueError(f"{n_such} of {n} is no share")
    found = n_such / n
    middle = (found + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(found * (1 - found) / n + Z**2 / (4 * n**2))
    return Interval(found, 0.0 if n_such == 0 else middle - half, 1.0 if n_such == n else middle + half, n)


def mean(values: Sequence[float], weights: Sequence[float] | None = None, *, seed: int = 1) -> Interval:
    """The mean over rows with its interval: Wilson's where all are 0 or 1 and weigh the same, else a bootstrap.

    Args:
        values: one a row, (N,).
        weights: what each counts, such as its tokens; they are drawn with their rows.
        seed: of the draws.

    Raises:
        ValueError: no rows, or weights that are not all positive.
    """
    if _even(weights) and _are_bits(values):
        return share(round(sum(values)), len(values))
    found, counts = _arrays(values, weights)
    value, low, high = _bootstrap(found, counts, seed)
    return Interval(value, low, high, len(found))


def difference(
    ours: Sequence[float], theirs: Sequence[float], weights: Sequence[float] | None = None, *, seed: int = 1
) -> Difference:
    """Ours less theirs on the same rows, with interval and test; for scores of 0 and 1 exact, else by draws.

    Args:
        ours: a score a row, (N,).
        theirs: of the same rows in the same order, (N,).
        weights: what each row counts, such as its tokens.
        seed: of the draws.

    Raises:
        ValueError: no rows, or not as many of one as of the other.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} rows cannot be paired with {len(theirs)}")
    more = sum(one > other for one, other in zip(ours, theirs, strict=True))
    less = sum(one < other for one, other in zip(ours, theirs, strict=True))
    if _even(weights) and _are_bits([*ours, *theirs]):
        both = sum(bool(one and other) for one, other in zip(ours, theirs, strict=True))
        value, low, high = newcombe(both, more, less, len(ours) - both - more - less)
        return Difference(value, low, high, len(ours), mcnemar(more, less), more, less)
    apart, counts = _arrays([_less(*pair) for pair in zip(ours, theirs, strict=True)], weights)
    value, low, high = _bootstrap(apart, counts, seed)
    return Difference(value, low, high, len(ours), signs(apart * counts, seed=seed), more, less)


def verdict(found: Difference, *, higher_is_better: bool = True) -> Verdict:
    """Whether ours is better. Interval and test both have to say so: where one of them doubts, it cannot be told."""
    sure = found.p < 1 - LEVEL and not found.low <= 0 <= found.high
    if not sure:
        return "cannot_tell"
    return "better" if (found.value > 0) == higher_is_better else "worse"


def mcnemar(more: int, less: int) -> float:
    """McNemar's test, exact: how likely so uneven a split of the rows that differ is, were either side as likely."""
    n = more + less
    ways = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(min(more, less) + 1)]
    return min(
        1.0, 2 * math.fsum(math.exp(one - n * math.log(2)) for one in ways)
    )  # as logarithms: 2^n may be no float


def newcombe(both: int, more: int, less: int, neither: int) -> tuple[float, float, float]:
    """The difference of two shares on the same rows, low and high: Wilson's limits of both, put together.

    `more` are the rows that only ours has right, `less` those that only theirs has. Newcombe 1998, method 10.
    """
    n = both + more + less + neither
    ours, theirs = share(both + more, n), share(both + less, n)
    spread = (both + more) * (less + neither) * (both + less) * (more + neither)
    inner = float(both * neither - more * less)
    if inner > 0:
        inner = max(inner - n / 2, 0.0)  # corrected for continuity, as the method says
    phi = inner / math.sqrt(spread) if spread else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2))

    value = ours.value - theirs.value
    low = value - reach(ours.value - ours.low, theirs.high - theirs.value)
    high = value + reach(ours.high - ours.value, theirs.value - theirs.low)
    return value, low, high


def signs(apart: Sequence[float] | Floats, *, seed: int = 1) -> float:
    """The paired permutation test: how often random signs make the sum of the differences as large, both ways.

    All patterns are looked at where few rows differ; else some thousand draws, the seen one counted among them.
    """
    import numpy as np

    found = np.asarray(apart, dtype=np.float64)
    found = found[found != 0]
    if not len(found):
        return 1.0
    if not np.isfinite(found).all():
        return math.nan
    seen = abs(found.sum()) - 1e-12 * abs(found).sum()  # sums in another order differ by rounding
    if len(found) <= EXACT_ROWS:
        patterns = np.arange(1 << len(found))[:, None] >> np.arange(len(found)) & 1  # (2^N, N)
        return float((abs((2 * patterns - 1) @ found) >= seen).mean())
    random, n_draws = np.random.default_rng(seed), _many(len(found))

    def draw(n: int) -> Any:
        return (2 * random.integers(0, 2, (n, len(found)), dtype=np.int8) - 1) @ found

    n_such = int((abs(_in_pieces(draw, n_draws, len(found))) >= seen).sum())
    return (1 + n_such) / (1 + n_draws)


def _bootstrap(values: Floats, weights: Floats, seed: int) -> tuple[float, float, float]:
    """The weighted mean with its BCa limits: the percentiles, shifted for bias and for skew."""
    import numpy as np

    value, n = float(np.average(values, weights=weights)), len(values)
    if n == 1 or not math.isfinite(value):
        return value, -math.inf, math.inf
    if (values == values[0]).all():
        return value, value, value
    random, products = np.random.default_rng(seed), values * weights

    def draw(n_draws: int) -> Any:
        places = random.integers(0, n, (n_draws, n))
        return products[places].sum(1) / weights[places].sum(1)

    drawn = _in_pieces(draw, _many(n), n)
    near = 1e-12 * max(abs(value), float(np.ptp(values)))  # equal but for rounding
    below = float((drawn < value - near).mean() + (abs(drawn - value) <= near).mean() / 2)
    if not 0 < below < 1:  # no draw on one side: nothing to shift by
        places = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    else:
        places = [_shifted(z, NormalDist().inv_cdf(below), _skew(products, weights)) for z in (-Z, Z)]
    low, high = np.quantile(drawn, places)
    return value, float(low), float(high)


def _shifted(z: float, bias: float, skew: float) -> float:
    return NormalDist().cdf(bias + (bias + z) / (1 - skew * (bias + z)))


def _skew(products: Floats, weights: Floats) -> float:
    """The acceleration of BCa, from the means without one row each."""
    without = (products.sum() - products) / (weights.sum() - weights)
    apart = without.mean() - without
    spread = float((apart**2).sum())
    return float((apart**3).sum()) / (6 * spread**1.5) if spread else 0.0


def _in_pieces(draw: Callable[[int], Any], n_draws: int, n_rows: int) -> Any:
    """All draws, made so many at a time that memory stays small."""
    import numpy as np

    most = max(1, AT_ONCE // n_rows)
    return np.concatenate([draw(min(most, n_draws - first)) for first in range(0, n_draws, most)])


def _many(n_rows: int) -> int:
    return max(1000, min(DRAWS, IN_ALL // n_rows))


def _arrays(values: Sequence[float], weights: Sequence[float] | None) -> tuple[Floats, Floats]:
    import numpy as np

    found = np.asarray(values, dtype=np.float64)
    counts = np.ones(len(found)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not len(found) or len(counts) != len(found) or not (counts > 0).all():
        raise ValueError(f"{len(found)} rows with {len(counts)} weights have no mean")
    return found, counts


def _less(one: float, other: float) -> float:
    """One less the other; two infinite ones do not differ."""
    return 0.0 if one == other else one - other


def _are_bits(values: Sequence[float]) -> bool:
    return len(values) > 0 and all(one in (0, 1) for one in values)


def _even(weights: Sequence[float] | None) -> bool:
    return weights is None or len(set(weights)) <= 1
