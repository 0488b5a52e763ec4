"""Layers that go the lean way against the same layers as their libraries compute them: loss and every gradient."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tiny.models import save
from tiny.moved import shaken
from tiny.rows import random_rows
from tunesmith.learn.lean_layers import lean_layers
from tunesmith.learn.loss import DocumentLoss, recompute_activations
from tunesmith.methods.freeze import Freeze
from tunesmith.methods.lora import Lora
from tunesmith.methods.qlora import Qlora
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load

ROWS = random_rows((12, 30, 7))
NO_FOUR_BITS = "bitsandbytes is missing; to get it, pip install 'tunesmith[qlora]'"
N_LINEAR, N_NORMS, N_GATED = 7, 2, 1


def told(model: nn.Module, dtype: torch.dtype = torch.float32) -> tuple[float, dict[str, Tensor]]:
    """The loss, and the gradient of each weight that moves."""
    model.zero_grad()
    loss = DocumentLoss(model, dtype=dtype, together=False)(ROWS)
    loss.backward()
    return loss.item(), {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


def same_slopes(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, one in wanted.items():
        assert (found[name] - one).norm() <= 1e-5 * one.norm(), name


def same_as_the_library(model: nn.Module, n_lean: int) -> dict[str, Tensor]:
    """Loss and gradients both ways, in float32, with so many layers that go the lean way; the library's gradients."""
    loss, slopes = told(model)
    with lean_layers(model, torch.float32) as n:
        assert n == n_lean
        lean_loss, lean_slopes = told(model)
    assert lean_loss == pytest.approx(loss, rel=1e-6)
    same_slopes(lean_slopes, slopes)
    return slopes


@pytest.mark.parametrize("family", ["llama", "qwen3", "qwen2"])
@pytest.mark.parametrize("recompute", [False, True])
def test_loss_and_gradients_are_those_of_the_library(family: str, recompute: bool, tmp_path: Path) -> None:
    base = save(tmp_path, family)
    facts = BaseFacts.read(base)
    model = shaken(Lora(rank=4).wrap(load(base), facts)).train()
    if recompute:
        recompute_activations(model)
    of_heads = 2 if family == "qwen3" else 0  # its norms of queries and keys
    sums = 0 if recompute else 1
    slopes = same_as_the_library(model, facts.n_layers * (N_LINEAR + N_NORMS + N_GATED + of_heads + sums) + 1)
    assert len(slopes) == 2 * N_LINEAR * facts.n_layers


@pytest.mark.parametrize("method", [Lora, Qlora, partial(Lora, variant="dora")])
def test_in_bfloat16_it_is_nearer_to_float32_than_the_library_is(method: Any, tmp_path: Path) -> None:
    if method is Qlora:
        pytest.importorskip("bitsandbytes", reason=NO_FOUR_BITS)
    base = save(tmp_path)
    facts = BaseFacts.read(base)

    def begun(dtype: torch.dtype, seed: int) -> Any:
        """With the frozen weights that bfloat16 has, in either type, and the same updates."""
        torch.manual_seed(seed)
        return shaken(method(rank=4).wrap(load(base, torch.bfloat16).to(dtype), facts)).train()

    def away(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
        gaps = [(found[name] - one).norm() / one.norm() for name, one in exact.items()]
        return float(torch.stack(gaps).mean())

    library, lean = [], []  # of several starts: of a single one either may be nearer by chance
    for seed in range(8):
        loss, slopes = told(begun(torch.float32, seed))
        model = begun(torch.bfloat16, seed)
        library.append(away(told(model, torch.bfloat16)[1], slopes))
        with lean_layers(model, torch.bfloat16):
            lean_loss, lean_slopes = told(model, torch.bfloat16)
        assert lean_loss == pytest.approx(loss, rel=2**-8)
        lean.append(away(lean_slopes, slopes))
    assert sum(lean) < sum(library) < 8 * 0.1


def test_updates_of_a_base_in_four_bits_go_the_lean_way_too(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason=NO_FOUR_BITS)
    base = save(tmp_path)
    facts = BaseFacts.read(base)
    model = shaken(Qlora(rank=4).wrap(load(base), facts)).train()
    slopes = same_as_the_library(model, facts.n_layers * (N_LINEAR + N_NORMS + N_GATED + 1) + 1)
    assert len(slopes) == 2 * N_LINEAR * facts.n_layers


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_dora_has_the_loss_and_gradients_of_the_library(family: str, tmp_path: Path) -> None:
    base = save(tmp_path, family)
    facts = BaseFacts.read(base)
    model = shaken(Lora(rank=4, variant="dora").wrap(load(base), facts)).train()
    slopes = same_as_the_library(model, facts.n_layers * (N_LINEAR + N_NORMS + N_GATED + 1) + 1)
    assert sum("magnitude" in name for name in slopes) == N_LINEAR * facts.n_layers
    assert len(slopes) == 3 * N_LINEAR * facts.n_layers


def test_layers_are_as_they_were_afterwards(tmp_path: Path) -> None:
    base = save(tmp_path)
    model = Lora(rank=4).wrap(load(base), BaseFacts.read(base))
    before = {name: set(vars(one)) for name, one in model.named_modules()}
    with lean_layers(model, torch.float32) as n:
        assert n > 10
        assert {name: set(vars(one)) for name, one in model.named_modules()} != before
    assert {name: set(vars(one)) for name, one in model.named_modules()} == before


@pytest.mark.parametrize("options", [{"dropout": 0.1}, {"variant": "dora", "dropout": 0.1}])
def test_updates_that_are_made_otherwise_go_their_own_way(options: dict[str, Any], tmp_path: Path) -> None:
    base = save(tmp_path)
    facts = BaseFacts.read(base)
    with lean_layers(Lora(rank=4, **options).wrap(load(base), facts), torch.float32) as n:
        assert n == (N_NORMS + N_GATED + 1) * facts.n_layers + 1


def test_norms_that_learn_are_given_the_slopes_of_the_library(tmp_path: Path) -> None:
    base = save(tmp_path)
    model = shaken(Freeze(layers=1, norms=True).wrap(load(base), BaseFacts.read(base))).train()
    loss, slopes = told(model)
    with lean_layers(model, torch.float32):
        lean_loss, lean_slopes = told(model)
    assert lean_loss == pytest.approx(loss, rel=1e-6)
    same_slopes(lean_slopes, slopes)
    assert sum("norm" in name for name in slopes) == 5


class Given(nn.Module):
    """Gives what it was made with, or what it is given."""

    def __init__(self, one: Tensor | None) -> None:
        super().__init__()
        self.one = one

    def forward(self, x: Tensor) -> Tensor:
        return x if self.one is None else self.one


def test_a_norm_and_a_gated_mlp_round_once_in_bfloat16(tmp_path: Path) -> None:
    model = load(save(tmp_path)).to(torch.bfloat16)
    layer: Any = model.get_decoder().layers[0]
    norm, mlp = layer.input_layernorm, layer.mlp
    norm.weight.data.uniform_(0.5, 2.0)
    x = torch.randn(5, norm.weight.shape[0])
    gate, up = (torch.randn(7, 33).bfloat16() for _ in range(2))
    mlp.gate_proj, mlp.up_proj, mlp.down_proj = (Given(one) for one in (gate, up, None))
    with lean_layers(model, torch.bfloat16):
        found, made = norm(x), mlp(x)
    wide = x.double()
    exact = wide / (wide.square().mean(-1, keepdim=True) + norm.variance_epsilon).sqrt() * norm.weight.double()
    assert torch.equal(found, exact.bfloat16())
    exact = gate.double() * torch.sigmoid(gate.double()) * up.double()
    assert torch.equal(made, exact.bfloat16())
