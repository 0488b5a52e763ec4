"""Which of the plans is taken, by distances that a hand writes down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunesmith.exports import _onnx_quantise
from tunesmith.exports._onnx_measure import Measured
from tunesmith.exports._onnx_quantise import KL_LIMIT, PLANS, Plan, Tried, choose


@pytest.mark.parametrize("n_good", range(len(PLANS[4]) + 1))
def test_the_smallest_that_keeps_the_answers_is_found_in_three_tries(
    n_good: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = PLANS[4]
    near = {plan.name: KL_LIMIT[4] for plan in plans[len(plans) - n_good :]}
    far = {plan.name: KL_LIMIT[4] * (1 + len(plans) - at) for at, plan in enumerate(plans)}

    def measured(plan: str) -> Measured:
        kl = {**far, **near}[plan]
        return Measured(kl, 1.0, enough=kl <= KL_LIMIT[4])

    def tried(graph: Any, store: Any, probe: Any, plan: Plan, limit: float, dtype: str, path: Path) -> Any:
        path.parent.mkdir()
        path.write_text(plan.name)
        return _onnx_quantise._Try(Tried(plan.name, 1, measured(plan.name)), 1, path)

    class ByHand:
        def measure(self, session: Path, kl_limit: float) -> Measured:
            return measured(session.read_text())

    monkeypatch.setattr(_onnx_quantise, "_try", tried)
    monkeypatch.setattr(_onnx_quantise, "session", lambda path: path)
    anything: Any = None
    by_hand: Any = ByHand()
    chosen = choose(anything, anything, by_hand, "q4", tmp_path / "model_q4.onnx")
    wanted = plans[len(plans) - n_good] if n_good else plans[-1]
    assert chosen.taken.plan == wanted.name
    assert (tmp_path / "model_q4.onnx").read_text() == wanted.name
    assert len(chosen.tried) <= 3
    assert [one.name for one in tmp_path.iterdir()] == ["model_q4.onnx"]


def test_the_nearest_changes_the_fewest_answers_and_one_that_was_not_asked_is_the_furthest() -> None:
    few, many, unasked = Measured(0.04, 1.0, 12, 2), Measured(0.01, 1.0, 12, 5), Measured(0.06, 1.0)
    assert few.distance < many.distance < unasked.distance
    assert unasked.distance < Measured(0.07, 1.0).distance
