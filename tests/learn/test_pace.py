"""What a few layers say of all of them, and of a whole run."""

from __future__ import annotations

import pytest

from tiny.rows import random_rows
from tiny.settings import settings
from tunesmith.learn import pace
from tunesmith.learn.pace import Pace, Seen


def test_what_a_layer_takes_and_what_the_rest_takes_are_told_apart() -> None:
    """One second for the rest and a tenth for a layer: 1.2 s with two, 1.4 s with four, 4 s with thirty."""
    assert pace.extrapolated({(0, 2): 1.2, (0, 4): 1.4}, 0, 30) == pytest.approx(4.0)


def test_layers_that_only_go_forward_are_counted_by_themselves() -> None:
    """0.5 s for the rest, 0.1 s for a layer above, 0.02 s for one below: 22 below and 8 above take 1.74 s."""
    seen = {(1, 2): 0.72, (1, 4): 0.92, (3, 2): 0.76}
    assert pace.extrapolated(seen, 22, 8) == pytest.approx(0.5 + 22 * 0.02 + 8 * 0.1)


def test_a_layer_never_takes_less_than_nothing() -> None:
    assert pace.extrapolated({(0, 2): 1.2, (0, 4): 1.1}, 0, 30) == pytest.approx(1.1)


def test_one_slice_that_is_the_model_is_what_it_took() -> None:
    assert pace.extrapolated({(0, 1): 0.7}, 0, 1) == 0.7


@pytest.mark.parametrize(
    ("n_layers", "lowest", "expected"),
    [
        (30, 0, [(0, 15), (0, 7, 15, 22)]),
        (30, 22, [(0, 22, 26), (0, 22, 24, 26, 28), (0, 7, 14, 22, 26)]),
        (2, 0, [(0,), (0, 1)]),
        (1, 0, [(0,)]),
        (2, 1, [(0, 1)]),
        (4, 4, [(0,), (0, 1, 2)]),  # the head alone moves
    ],
)
def test_slices_are_of_layers_that_stand_apart(n_layers: int, lowest: int, expected: list[tuple[int, ...]]) -> None:
    made = pace.slices(n_layers, lowest)
    assert [len(one) for one in made] == [len(one) for one in expected]
    assert made == expected


def test_the_larger_slices_are_as_large_as_there_is_time_for() -> None:
    def sizes(most: int, lowest: int = 0) -> list[int]:
        return [len(one) for one in pace.slices(30, lowest, most)]

    assert sizes(3) == sizes(4) == [2, 4]
    assert sizes(9) == [2, 9]
    assert pace.slices(30, 0, 99)[1] == tuple(range(30))  # the whole model: nothing is guessed
    assert sizes(9, lowest=22) == [1 + 2, 1 + 8, 9 + 2]  # eight are above, of twenty-two below nine


def seen(below: int, above: int, first: tuple[float, ...], later: tuple[float, ...] | None = None) -> Seen:
    return Seen(below, above, first, later or first, 0.1, 0.2, 0.2, 0.05)


def test_the_pace_is_of_the_median_step_and_its_spread_is_that_of_the_largest_slice() -> None:
    made = pace.told(
        [seen(0, 2, (1.2, 1.3, 1.1)), seen(0, 4, (1.4, 2.1, 0.7))],
        0,
        30,
        tokens=900.0,
        held_out_tokens=100,
        busy=False,
    )
    assert made.first == pytest.approx(4.0)
    assert (made.low, made.high) == pytest.approx((0.5, 1.5))
    assert (made.steps, made.layers) == (3, (2, 4))
    assert made.moving == pytest.approx(0.1)


PACE = Pace(
    first=2.0,
    later=1.0,
    moving=0.5,
    held_out=4.0,
    held_out_later=2.0,
    checkpoint=3.0,
    tokens=1000.0,
    held_out_tokens=500,
    low=0.9,
    high=1.1,
    steps=3,
    layers=(2, 4),
)


def test_twice_the_tokens_take_twice_the_time_but_for_the_move_of_the_weights() -> None:
    assert PACE.a_step(1000) == 2.0
    assert PACE.a_step(2000) == 0.5 + 2 * 1.5
    assert PACE.a_step(2000, later=True) == 0.5 + 2 * 0.5


def test_a_run_is_its_steps_its_held_out_rows_and_its_checkpoints() -> None:
    """Ten steps in each of two epochs, the held-out loss three times over a thousand tokens, a checkpoint an epoch."""
    run = pace.forecast(PACE, settings(epochs=2.0, steps=20), computed=20_000, held_out_tokens=1000)
    assert run.steps == 10 * 2.0 + 10 * 1.0
    assert run.held_out == 2 * (4.0 + 2 * 2.0)
    assert (run.n_checkpoints, run.checkpoints) == (2, 6.0)
    assert run.whole == 30.0 + 16.0 + 6.0


def test_a_long_run_writes_checkpoints_between_its_epochs_too() -> None:
    run = pace.forecast(PACE, settings(epochs=1.0, steps=300, checkpoint_minutes=4.0), computed=3e5, held_out_tokens=0)
    assert run.steps == 600.0
    assert run.n_checkpoints == 1 + 2  # ten minutes have two times four in them
    assert run.held_out == 0.0


def test_half_an_epoch_is_no_later_one() -> None:
    run = pace.forecast(PACE, settings(epochs=0.5, steps=5), computed=5000, held_out_tokens=0)
    assert run.steps == 5 * 2.0


def test_rows_of_a_step_are_numbered_among_those_of_all() -> None:
    groups = [random_rows([5] * n) for n in (2, 1, 3)]
    assert pace._numbered(groups) == [(0, 1), (2,), (3, 4, 5)]


def test_measured_steps_are_of_the_usual_size_and_cut_to_whole_rows() -> None:
    rows = random_rows([10] * 29 + [200])
    groups = pace.typical(rows, settings(rows_per_step=3, epochs=1.0), 25)
    assert [len(group) for group in groups] == [2, 2, 2, 2]
    assert all(len(row.ids) == 10 for group in groups for row in group)
    assert [len(group) for group in pace.typical(rows, settings(rows_per_step=3, epochs=1.0), 1)] == [1, 1, 1, 1]
