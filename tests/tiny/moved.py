"""What tests of learning do to a model or to a run, each in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tunesmith.text.example import Tokens


class PowerCut(Exception):
    """What ends a run in the middle of a step."""


@contextmanager
def power_cut(monkeypatch: pytest.MonkeyPatch, *, step: int) -> Iterator[None]:
    """Within this block the run's step of this number does not come to be; that it was reached is asserted."""
    from tunesmith.learn import loop

    taken, real = 0, loop.take_step

    def breaks(*parts: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken == step:
            raise PowerCut
        return real(*parts)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_step", breaks)
        with pytest.raises(PowerCut):
            yield
    assert taken == step


def shaken(model: nn.Module, by: float = 0.05, seed: int = 1) -> Any:
    """The model, all of whose learnt weights have moved."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * by)
    return model


def plain_loss(model: Any, rows: list[Tokens]) -> Tensor:
    """The loss by the plainest means: each row by itself, all logits, the attention that a model has at rest."""
    total = torch.zeros(())
    for row in rows:
        logits = model(input_ids=torch.tensor([row.ids])).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[1:]), reduction="none")
        total = total + (each * torch.tensor(row.weights[1:])).sum()
    return total


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Of each weight that has one, by its name."""
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
