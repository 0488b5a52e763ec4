from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from tiny.settings import settings
from tunesmith.learn import optimizer


def test_the_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    told = settings(steps=100, warmup_ratio=0.1, learning_rate=2.0)
    rates = [optimizer.rate(step, told) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9] == 2.0
    assert rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0, abs=0.01)
    assert 0 < rates[99] < 0.01
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_without_warm_up_the_first_step_is_at_the_peak() -> None:
    told = settings(steps=5, warmup_ratio=0.0, learning_rate=3.0)
    assert optimizer.rate(1, told) == 3.0


def test_only_matrices_decay() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    groups = optimizer.make(model, settings(weight_decay=0.1)).param_groups
    decays = {weight: group["weight_decay"] for group in groups for weight in group["params"]}
    assert [decays[weight] for weight in model.parameters()] == [0.1, 0.0, 0.0, 0.0]


def test_state_put_back_moves_the_weights_the_same_way() -> None:
    def stepped(model: nn.Module, opt: torch.optim.Optimizer) -> torch.Tensor:
        model(torch.ones(2, 3)).square().sum().backward()
        opt.step()
        opt.zero_grad()
        return model.weight.detach().clone()

    torch.manual_seed(0)
    first = nn.Linear(3, 2)
    one = optimizer.make(first, settings())
    for _ in range(3):
        stepped(first, one)
    second = nn.Linear(3, 2)
    second.load_state_dict(first.state_dict())
    other = optimizer.make(second, settings())
    optimizer.load_state(second, other, optimizer.state(first, one))
    assert torch.equal(stepped(first, one), stepped(second, other))
