"""Activations that are computed twice, where memory is short: loss and every gradient stay what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tiny.models import save
from tiny.rows import random_rows
from tunesmith.learn.attention import attending_per_document
from tunesmith.learn.lean_layers import lean_layers
from tunesmith.learn.lean_rotary import lean_rotary
from tunesmith.learn.loss import DocumentLoss, recompute_activations
from tunesmith.weights.load import load

LENGTHS = (5, 30, 17, 30)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text"])
def test_what_is_computed_twice_gives_the_same_bit_for_bit(family: str, tmp_path: Path) -> None:
    folder = save(tmp_path, family)
    kept, kept_loss, once = learnt(folder, recompute=False)
    again, again_loss, twice = learnt(folder, recompute=True)
    assert again_loss == kept_loss
    assert kept.keys() == again.keys()
    assert len(kept) > 10
    assert [name for name, one in kept.items() if not torch.equal(one, again[name])] == []
    assert twice == 2 * once > 0


def learnt(folder: Path, *, recompute: bool) -> tuple[dict[str, torch.Tensor], float, int]:
    """Gradients, loss, and how often an MLP went forward, as the loop has the model."""
    model: Any = load(folder, torch.float32)
    model.train()
    if recompute:
        recompute_activations(model)
    went: list[int] = []
    for layer in model.model.layers:
        layer.mlp.register_forward_pre_hook(lambda *_: went.append(1))
    with attending_per_document(model), lean_layers(model, torch.float32), lean_rotary(model):
        asked = DocumentLoss(model)  # asks the model some things by itself
        went.clear()
        loss = asked(random_rows(LENGTHS))
        loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return gradients, loss.item(), len(went)
