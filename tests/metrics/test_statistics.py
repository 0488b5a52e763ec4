"""Intervals and tests, held to scipy, to printed figures, and to how often they are right."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from tunesmith.metrics import _statistics as statistics
from tunesmith.metrics._statistics import Difference

SKEWED = [0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.4, 0.4, 0.7, 1.9, 2.6, 4.2]


@pytest.mark.parametrize(("n_such", "n"), [(0, 1), (1, 1), (0, 10), (10, 10), (3, 7), (275, 350)])
def test_the_interval_of_a_share_is_wilson_s(n_such: int, n: int) -> None:
    wanted = stats.binomtest(n_such, n).proportion_ci(0.95, method="wilson")
    found = statistics.share(n_such, n)
    assert (found.value, found.n) == (n_such / n, n)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 of 0"):
        statistics.share(0, 0)
    with pytest.raises(ValueError, match="3 of 2"):
        statistics.share(3, 2)


def test_the_mean_of_noughts_and_ones_is_a_share_and_so_is_one_row_alone() -> None:
    assert statistics.mean([1, 0, 1, 1]) == statistics.share(3, 4)
    assert statistics.mean([1.0], [7.0]) == statistics.share(1, 1)


@pytest.mark.parametrize("values", [SKEWED, list(np.random.default_rng(3).normal(size=200))])
def test_the_interval_of_a_mean_is_scipy_s_bca(values: list[float]) -> None:
    found = statistics.mean(values)
    wanted = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=20_000, rng=5).confidence_interval
    spread = float(np.std(values)) / math.sqrt(len(values))
    assert found.value == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.1 * spread)


def test_the_same_rows_give_the_same_interval_and_another_seed_another() -> None:
    assert statistics.mean(SKEWED) == statistics.mean(SKEWED)
    assert statistics.mean(SKEWED) != statistics.mean(SKEWED, seed=2)


def test_weights_count_as_so_many_rows_in_the_mean() -> None:
    found = statistics.mean([1.0, 0.5], [1, 3])
    assert found.value == pytest.approx(2.5 / 4)
    assert 0.5 <= found.low <= found.value <= found.high <= 1.0


def test_one_row_tells_nothing_about_a_mean_and_rows_that_are_alike_leave_no_doubt() -> None:
    one = statistics.mean([0.4])
    assert (one.value, one.low, one.high, one.n) == (0.4, -math.inf, math.inf, 1)
    alike = statistics.mean([0.4] * 5)
    assert (alike.low, alike.high) == pytest.approx((0.4, 0.4))
    with pytest.raises(ValueError, match="0 rows"):
        statistics.mean([])
    with pytest.raises(ValueError, match="no mean"):
        statistics.mean([0.5, 0.7], [1, 0])


@pytest.mark.parametrize(("more", "less"), [(0, 0), (1, 0), (10, 2), (2, 10), (5, 5), (40, 61), (1200, 1000)])
def test_mcnemar_is_the_exact_binomial_test(more: int, less: int) -> None:
    wanted = stats.binomtest(more, more + less).pvalue if more + less else 1.0
    assert statistics.mcnemar(more, less) == pytest.approx(wanted, rel=1e-9)


def test_the_interval_of_two_shares_is_the_one_that_newcombe_prints() -> None:
    """Statistics in Medicine 17 (1998), pages 2635 to 2650, method 10."""
    assert statistics.newcombe(36, 12, 2, 0) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)
    assert statistics.newcombe(36, 14, 0, 0) == pytest.approx((0.28, 0.1528, 0.4167), abs=5e-5)


@pytest.mark.parametrize("apart", [[1.0, 2.0, -0.5], [0.5] * 6, [0.1, 0.2, 0.3, -0.6], [1.0, 0.0, 2.0, 0.0, 3.0, -1.0]])
def test_the_test_of_few_rows_looks_at_every_pattern_of_signs(apart: list[float]) -> None:
    wanted = stats.permutation_test((apart, [0.0] * len(apart)), _apart, permutation_type="samples").pvalue
    assert statistics.signs(apart) == pytest.approx(wanted)


def _apart(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
    return np.sum(one - other, axis=axis)


def test_six_rows_that_are_all_better_are_just_enough_and_five_are_not() -> None:
    """All signs alike: two patterns of 2^6 and of 2^5."""
    assert statistics.signs([0.3, 0.1, 0.2, 0.4, 0.2, 0.9]) == 2 / 64
    assert statistics.signs([0.3, 0.1, 0.2, 0.4, 0.2]) == 2 / 32


def test_the_test_of_many_rows_is_near_that_of_a_bell_curve() -> None:
    apart = np.random.default_rng(4).normal(0.15, 1, size=200)
    wanted = 2 * stats.norm.sf(abs(apart.sum()) / math.sqrt((apart**2).sum()))
    assert statistics.signs(apart) == pytest.approx(wanted, abs=0.01)
    assert statistics.signs(apart + 5) == 1 / 10_001


def test_rows_that_do_not_differ_tell_nothing() -> None:
    assert statistics.signs([]) == statistics.signs([0.0, 0.0]) == 1.0
    found = statistics.difference([0.5, 0.2], [0.5, 0.2])
    assert (found.value, found.p, found.more, found.less) == (0, 1, 0, 0)
    assert statistics.verdict(found) == "cannot_tell"
    bits = statistics.difference([1, 0], [1, 0])
    assert bits.low < 0 < bits.high
    assert statistics.verdict(bits) == "cannot_tell"


def test_scores_of_nought_and_one_are_tested_exactly() -> None:
    ours, theirs = [1] * 48 + [0] * 2, [1] * 36 + [0] * 12 + [1] * 2
    found = statistics.difference(ours, theirs)
    assert (found.n, found.more, found.less) == (50, 12, 2)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)
    assert found.p == pytest.approx(stats.binomtest(12, 14).pvalue)
    assert statistics.verdict(found) == "better"
    assert statistics.verdict(statistics.difference(theirs, ours)) == "worse"


def test_a_lower_score_may_be_the_better_one() -> None:
    theirs = list(np.random.default_rng(5).gamma(2, size=40))
    found = statistics.difference([one * 0.8 for one in theirs], theirs)
    assert found.high < 0
    assert statistics.verdict(found) == "worse"
    assert statistics.verdict(found, higher_is_better=False) == "better"


def test_interval_and_test_have_to_agree() -> None:
    sure = Difference(0.2, 0.1, 0.3, 50, 0.01, 12, 2)
    assert statistics.verdict(sure) == "better"
    for doubt in (Difference(0.2, -0.1, 0.3, 50, 0.01, 9, 2), Difference(0.2, 0.1, 0.3, 50, 0.06, 9, 2)):
        assert statistics.verdict(doubt) == "cannot_tell"
    assert statistics.verdict(Difference(math.inf, -math.inf, math.inf, 1, math.nan, 1, 0)) == "cannot_tell"


def test_infinite_scores_and_rows_that_are_not_pairs() -> None:
    found = statistics.difference([math.inf, 1.0], [math.inf, 2.0])
    assert (found.value, found.more, found.less) == (-0.5, 0, 1)
    one = statistics.difference([math.inf, 1.0], [3.0, 2.0])
    assert math.isnan(one.p)
    assert statistics.verdict(one) == "cannot_tell"
    with pytest.raises(ValueError, match="2 rows cannot be paired with 1"):
        statistics.difference([1, 0], [1])
    with pytest.raises(ValueError, match="0 rows"):
        statistics.difference([], [])


def test_very_many_rows_are_drawn_fewer_times() -> None:
    values = np.random.default_rng(6).normal(size=60_000)
    found = statistics.mean(list(values))
    assert (found.high - found.low) == pytest.approx(2 * statistics.Z * values.std() / math.sqrt(60_000), rel=0.15)


def test_ninety_five_of_a_hundred_intervals_hold_the_true_mean() -> None:
    """Of 40 rows of a skewed kind, over 300 samples: BCa is known to hold it a little less often."""
    random = np.random.default_rng(7)
    held = [
        one.low <= 1 <= one.high for one in (statistics.mean(list(random.exponential(size=40))) for _ in range(300))
    ]
    assert 0.89 <= np.mean(held) <= 0.98


def test_ninety_five_of_a_hundred_intervals_hold_the_true_difference_of_shares() -> None:
    """60 rows; ours is right on 0.8 of them, theirs on 0.7, and both fail on the same hard ones."""
    random = np.random.default_rng(8)
    held = []
    for _ in range(1000):
        hard = random.random(60)
        ours, theirs = hard + random.normal(0, 0.1, 60) < 0.8, hard + random.normal(0, 0.1, 60) < 0.7
        found = statistics.difference(list(ours.astype(float)), list(theirs.astype(float)))
        held.append(found.low <= 0.1 <= found.high)
    assert 0.93 <= np.mean(held) <= 0.99


def test_models_that_are_alike_are_seldom_told_apart() -> None:
    random = np.random.default_rng(9)
    told = []
    for _ in range(300):
        found = statistics.difference(list(random.gamma(2, size=30)), list(random.gamma(2, size=30)))
        told.append(statistics.verdict(found) != "cannot_tell")
    assert np.mean(told) <= 0.075
