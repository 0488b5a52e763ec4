"""Rows that begin alike, divided into families: by hand, and against every other way of dividing them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tunesmith.learn import families
from tunesmith.learn.batches import portions, share
from tunesmith.learn.families import Family, Sharing

SYSTEM, OTHER = tuple(range(100, 140)), tuple(range(200, 220))
IDS = [(*SYSTEM, 1, 2, 3), (*SYSTEM, 1, 4), (*SYSTEM, 5), (*OTHER, 6, 7), (*OTHER, 8), (9, 9, 9)]


def test_each_beginning_makes_a_family_and_the_rest_is_one_without() -> None:
    made = Sharing().families(range(6), IDS)
    assert made == [Family((5, 4, 3), 0), Family((2, 1, 0), 40)], "20 tokens of two rows are not worth it"
    assert [one.n_tokens([len(ids) for ids in IDS]) for one in made] == [3 + 21 + 22, 40 + 1 + 2 + 3]
    several = [*IDS, (*OTHER, 10)]
    assert Family((4, 6, 3), 20) in Sharing().families(range(7), several)


def test_a_row_keeps_a_token_of_its_own() -> None:
    assert Sharing().families([0, 1], [SYSTEM, SYSTEM]) == [Family((0, 1), 39)]
    assert Sharing().families([0, 1], [SYSTEM, (*SYSTEM, 1, 2)]) == [Family((0, 1), 39)]


def test_a_row_longer_than_the_window_shares_nothing() -> None:
    assert Sharing(longest=42).families(range(3), IDS) == [Family((0,), 0), Family((2, 1), 40)]


def test_only_the_rows_that_are_asked_for_are_divided() -> None:
    assert Sharing().families([4, 0, 1], IDS) == [Family((4,), 0), Family((1, 0), 41)]


def ways(low: int, high: int) -> Iterator[list[tuple[int, int]]]:
    """Every division of a range into ranges."""
    if low == high:
        yield []
    for till in range(low + 1, high + 1):
        yield from ([(low, till), *rest] for rest in ways(till, high))


def saved(ids: Sequence[tuple[int, ...]]) -> int:
    shortest = min(len(one) for one in ids)
    alike = next((at for at in range(shortest) if len({one[at] for one in ids}) > 1), shortest)
    return min(alike, shortest - 1) * (len(ids) - 1)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple), min_size=1, max_size=7))
@example([(0, 1), (0, 2), (0, 3, 3, 3, 1), (0, 3, 3, 3, 2)])
@example([(0, 0), (0, 0), (0, 0, 0, 0), (0, 0, 0, 0)])
def test_no_other_way_of_cutting_their_order_saves_more(ids: list[tuple[int, ...]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(families, "LEAST_SAVED", 1)
        made = Sharing().families(range(len(ids)), ids)
    lengths = [len(one) for one in ids]
    assert sorted(row for one in made for row in one.rows) == list(range(len(ids)))
    for family in made:
        assert len({ids[row][: family.n_shared] for row in family.rows}) == 1
        assert all(len(ids[row]) > family.n_shared for row in family.rows)
    found = sum(lengths) - sum(one.n_tokens(lengths) for one in made)
    order = sorted(ids)
    assert found == max(sum(saved(order[low:high]) for low, high in way) for way in ways(0, len(order)))


def test_thousands_of_rows_are_divided_a_block_at_a_time() -> None:
    ids = [(*SYSTEM, row % 7, row) for row in range(3000)]
    made = Sharing().families(range(3000), ids)
    assert sorted(row for one in made for row in one.rows) == list(range(3000))
    assert 10 <= len(made) <= 100
    assert all(one.n_shared >= 40 for one in made)


def test_what_a_family_shares_counts_once_in_each_portion() -> None:
    lengths = {0: 50, 1: 50, 2: 50, 3: 50}
    made = portions([Family((0, 1, 2, 3), 40)], lengths, most_rows=None, most_tokens=70)
    assert made == [[0, 1, 2], [3]]
    assert portions([Family((0, 1, 2, 3), 0)], lengths, most_rows=None, most_tokens=100) == [[0, 1], [2, 3]]


def test_a_process_shares_among_its_own_rows() -> None:
    each = share(range(6), [(*SYSTEM, row) for row in range(6)], n=2, most_rows=None, most_tokens=43, sharing=Sharing())
    assert each == [[[0, 2, 4]], [[1, 3, 5]]]
