"""Whatever a model says, a metric gives a number in its bounds, and the best one to the wanted answer itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith import rooms
from tunesmith.metrics import _harm, _kinds
from tunesmith.metrics._contract import Row

BEST = {"share": 1.0, "points": 100.0}
NAMES = [name for name in rooms.names("metrics") if rooms.find("metrics", name).unit in BEST]
TEXTS = st.text() | st.text(alphabet="019.,'/-+e$# \n\u00a0\u0664%m") | st.text(alphabet='{}[]":,01truefalsn \n`')


def test_most_metrics_are_looked_at() -> None:
    assert len(NAMES) == 8


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(said=TEXTS, wanted=TEXTS)
def test_a_score_is_in_its_bounds_and_the_wanted_answer_has_the_best(name: str, said: str, wanted: str) -> None:
    metric = rooms.find("metrics", name)()
    found, best = metric.score(Row(said, wanted)), BEST[metric.unit]
    assert found is None or 0 <= found <= best * (1 + 1e-9)
    assert metric.score(Row(wanted, wanted)) in (None, pytest.approx(best))
    metric.together([Row(said, wanted), Row(wanted, wanted)])


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=1))
def test_answers_of_every_sort_are_of_some_kind_and_a_loop_or_not(texts: list[str]) -> None:
    assert _kinds.kind_of(texts) is not None
    assert {_harm.has_loop(one) for one in texts} <= {True, False}
