"""Settings of a small run on the CPU, for tests that change one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tunesmith.learn.settings import Settings

PLAIN = Settings(
    device="cpu",
    dtype="float32",
    onednn=False,
    epochs=2.0,
    steps=6,
    rows_per_step=3,
    learnt_per_step=None,
    most_rows=None,
    most_tokens=512,
    learning_rate=1e-3,
    warmup_ratio=0.1,
    weight_decay=0.01,
    max_grad_norm=1.0,
    max_length=128,
    recompute=False,
    save_dtype="float32",
    checkpoint_minutes=10.0,
    seed=1,
)


def settings(**changes: Any) -> Settings:
    """The plain settings, some of them changed."""
    return replace(PLAIN, **changes)
