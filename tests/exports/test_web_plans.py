"""Which of the plans is taken, by distances that a hand writes down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunesmith.exports import _onnx_quantise
from tunesmith.exports._onnx_quantise import KL_LIMIT, PLANS, Plan, Tried, choose


@pytest.mark.parametrize("n_good", range(len(PLANS[4]) + 1))
def test_the_smallest_that_keeps_the_answers_is_found_in_three_tries(
    n_good: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = PLANS[4]
    near = {plan.name: KL_LIMIT[4] for plan in plans[len(plans) - n_good :]}
    far = {plan.name: KL_LIMIT[4] * (1 + len(plans) - at) for at, plan in enumerate(plans)}

    def tried(graph: Any, store: Any, probe: Any, plan: Plan, dtype: str, path: Path) -> Any:
        path.parent.mkdir()
        path.write_text(plan.name)
        return _onnx_quantise._Try(Tried(plan.name, 1, {**far, **near}[plan.name], 1.0), 1, path)

    monkeypatch.setattr(_onnx_quantise, "_try", tried)
    anything: Any = None
    chosen = choose(anything, anything, anything, "q4", tmp_path / "model_q4.onnx")
    wanted = plans[len(plans) - n_good] if n_good else plans[-1]
    assert chosen.taken.plan == wanted.name
    assert (tmp_path / "model_q4.onnx").read_text() == wanted.name
    assert len(chosen.tried) <= 3
    assert [one.name for one in tmp_path.iterdir()] == ["model_q4.onnx"]
