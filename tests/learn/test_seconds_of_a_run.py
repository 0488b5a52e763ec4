"""What a run took, as its result and its card say it and as a plan forecasts it."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

from tiny.models import save
from tiny.rows import random_rows
from tiny.settings import settings
from tunesmith.learn import loop
from tunesmith.methods.lora import Lora
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load


def test_the_held_out_loss_before_the_first_step_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which nothing takes time but the held-out loss: a minute before, and one after each epoch."""
    clock, held = [0.0], itertools.count(1)

    def held_out_loss(course: loop.Course) -> float:
        clock[0] += 60.0
        return 1.0 / next(held)

    monkeypatch.setattr(loop, "held_out_loss", held_out_loss)
    monkeypatch.setattr("tunesmith.learn.loop.time.monotonic", lambda: clock[0])
    method, base = Lora(rank=4), save(tmp_path / "base")
    torch.manual_seed(0)
    model = method.wrap(load(base), BaseFacts.read(base))
    rows = random_rows((12, 9, 20, 7))
    told = settings(epochs=2.0, rows_per_step=2, steps=4)
    ended = loop.learn(model, rows, rows, told, keeper=method, run=tmp_path / "run")
    assert ended.seconds == 3 * 60.0
    assert ended.held_out_loss == pytest.approx(1 / 3)
