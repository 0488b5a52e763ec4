"""Rotary positions by our own function against the model's: loss, every gradient, and the file as it was afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers.models.glm import modeling_glm
from transformers.models.llama import modeling_llama

from tiny.models import save
from tiny.moved import plain_loss, shaken
from tiny.rows import random_rows
from tunesmith.learn.lean_rotary import _turns_halves, lean_rotary
from tunesmith.methods.lora import Lora
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load

ROWS = random_rows((12, 30, 7))


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text"])
def test_loss_and_gradients_are_those_of_the_model(family: str, tmp_path: Path) -> None:
    base = save(tmp_path, family)
    model = shaken(Lora(rank=4).wrap(load(base), BaseFacts.read(base))).train()

    def told() -> tuple[float, dict[str, Tensor]]:
        model.zero_grad()
        loss = plain_loss(model, ROWS)
        loss.backward()
        return loss.item(), {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}

    loss, slopes = told()
    with lean_rotary(model) as n:
        assert n == 1
        lean_loss, lean_slopes = told()
    assert lean_loss == pytest.approx(loss, rel=1e-6)
    assert len(slopes) > 20
    for name, one in slopes.items():
        assert (lean_slopes[name] - one).norm() <= 1e-5 * one.norm(), name


def test_the_function_of_the_library_is_back_afterwards(tmp_path: Path) -> None:
    theirs = modeling_llama.apply_rotary_pos_emb
    with lean_rotary(load(save(tmp_path))):
        assert modeling_llama.apply_rotary_pos_emb is not theirs
    assert modeling_llama.apply_rotary_pos_emb is theirs


def test_one_that_turns_otherwise_is_left_alone() -> None:
    """GLM turns neighbours, not halves."""
    assert _turns_halves(modeling_llama.apply_rotary_pos_emb)
    assert not _turns_halves(modeling_glm.apply_rotary_pos_emb)


def test_the_wider_type_comes_out(tmp_path: Path) -> None:
    heads, angles = torch.randn(1, 2, 5, 8, dtype=torch.bfloat16), torch.randn(1, 5, 4).repeat(1, 1, 2)
    wanted = modeling_llama.apply_rotary_pos_emb(heads, heads, angles.cos(), angles.sin())
    with lean_rotary(load(save(tmp_path))):
        found = modeling_llama.apply_rotary_pos_emb(heads, heads, angles.cos(), angles.sin())
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert torch.allclose(one, other, atol=1e-6)
