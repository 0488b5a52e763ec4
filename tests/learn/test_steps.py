from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tiny.rows import random_rows
from tunesmith.learn.batches import n_learnt, plan_steps, portions, share, weight_of
from tunesmith.learn.families import Family
from tunesmith.text.example import Tokens


def test_each_epoch_has_every_row_once_in_an_order_of_its_own() -> None:
    steps = plan_steps([3] * 10, epochs=2, rows_per_step=4, learnt_per_step=None, seed=1)
    assert [len(step.rows) for step in steps] == [4, 4, 2, 4, 4, 2]
    first, second = (sum((step.rows for step in steps[part]), ()) for part in (slice(0, 3), slice(3, 6)))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [step.ends_epoch for step in steps] == [False, False, True, False, False, True]
    assert [round(step.epoch, 2) for step in steps] == [0.4, 0.8, 1.0, 1.4, 1.8, 2.0]


def test_the_seed_alone_decides_the_order() -> None:
    def rows(seed: int) -> list[tuple[int, ...]]:
        return [s.rows for s in plan_steps([1] * 20, epochs=1, rows_per_step=5, learnt_per_step=None, seed=seed)]

    assert rows(1) == rows(1)
    assert rows(1) != rows(2)


def test_half_an_epoch_is_half_the_rows() -> None:
    steps = plan_steps([1] * 10, epochs=1.5, rows_per_step=5, learnt_per_step=None, seed=1)
    assert sum(len(step.rows) for step in steps) == 15
    assert steps[-1].epoch == 1.5


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 200))
def test_a_step_by_tokens_reaches_them_and_not_a_row_more(learnt: list[int], wanted: int) -> None:
    steps = plan_steps(learnt, epochs=1, rows_per_step=None, learnt_per_step=wanted, seed=0)
    assert sorted(row for step in steps for row in step.rows) == list(range(len(learnt)))
    for step in steps:
        assert sum(learnt[row] for row in step.rows[:-1]) < wanted
        assert step is steps[-1] or sum(learnt[row] for row in step.rows) >= wanted


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40), st.integers(1, 5), st.integers(20, 200))
def test_portions_keep_all_rows_and_both_bounds(lengths: list[int], most_rows: int, most_tokens: int) -> None:
    made = portions(
        [Family(tuple(range(len(lengths))), 0)], dict(enumerate(lengths)), most_rows=most_rows, most_tokens=most_tokens
    )
    assert sorted(row for portion in made for row in portion) == list(range(len(lengths)))
    for portion in made:
        assert len(portion) <= most_rows
        assert len(portion) == 1 or sum(lengths[row] for row in portion) <= most_tokens


def test_every_process_has_as_many_portions_and_each_row_goes_to_one() -> None:
    each = share(range(5), [(1, 2, 3, 4)] * 5, n=3, most_rows=1, most_tokens=100)
    assert [len(one) for one in each] == [2, 2, 2]
    assert sorted(row for one in each for portion in one for row in portion) == [0, 1, 2, 3, 4]


def test_the_first_token_of_a_row_is_never_learnt() -> None:
    row = Tokens((1, 2, 3, 4), (1.0, 0.5, 0.0, 1.0))
    assert (n_learnt(row), weight_of(row)) == (2, 1.5)
    assert n_learnt(random_rows((1,), share=1.0)[0]) == 0
