"""Logits only where there is loss, in chunks, with the gradient made on the way: the same as all of them at once."""

from __future__ import annotations

import math

import pytest
import torch

from tiny.rows import random_rows
from tunesmith.learn import chunked_loss
from tunesmith.learn.attention_parts import Laid
from tunesmith.learn.chunked_loss import summed_cross_entropy
from tunesmith.learn.kept_memory import Workspace
from tunesmith.learn.loss import lay
from tunesmith.text.example import Tokens
from tunesmith.weights import estimate


@pytest.mark.parametrize("cap", [None, 5.0])
@pytest.mark.parametrize("n", [1, 128, 300])
def test_chunks_give_loss_and_gradients_of_the_whole(
    n: int, cap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "CHUNK_BYTES", 20 * 50 * 4)
    monkeypatch.setattr(estimate, "SLOPES_BYTES", 50 * 50 * 4)
    monkeypatch.setattr(chunked_loss, "HEAD_ROWS_AT_ONCE", 15)
    assert estimate.rows_at_once(estimate.CHUNK_BYTES, 50, 4) == 20
    torch.manual_seed(0)
    hidden = torch.randn(n, 16, requires_grad=True)
    head = torch.randn(50, 16, requires_grad=True)
    targets, weights = torch.randint(50, (n,)), torch.rand(n)
    found = summed_cross_entropy(hidden, head, targets, weights, cap, torch.float32) * 0.5
    grads = torch.autograd.grad(found, (hidden, head))
    logits = hidden @ head.T
    logits = torch.tanh(logits / cap) * cap if cap else logits
    expected = (torch.nn.functional.cross_entropy(logits, targets, reduction="none") * weights).sum() * 0.5
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for one, other in zip(grads, torch.autograd.grad(expected, (hidden, head)), strict=True):
        assert torch.allclose(one, other, atol=1e-4, rtol=1e-4)


def test_what_is_all_but_impossible_costs_what_it_costs() -> None:
    """Its probability, e^-200, is no number of float32; its loss and slope are."""
    hidden = torch.tensor([[200.0], [0.0]], requires_grad=True)
    head, targets = torch.tensor([[1.0], [0.0]]), torch.tensor([1, 1])
    loss = summed_cross_entropy(hidden, head, targets, torch.ones(2), None, torch.float32)
    assert loss.item() == pytest.approx(200.0 + math.log(2))
    loss.backward()
    assert hidden.grad is not None
    assert hidden.grad.flatten().tolist() == pytest.approx([1.0, 0.5])


def test_a_frozen_head_gets_no_gradient_and_none_is_computed() -> None:
    hidden, head = torch.randn(3, 4, requires_grad=True), torch.randn(7, 4)
    loss = summed_cross_entropy(hidden, head, torch.tensor([1, 2, 3]), torch.ones(3), None, torch.float32)
    loss.backward()
    assert hidden.grad is not None
    assert head.grad is None


def test_bfloat16_products_sum_in_float32() -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(2000, 8), torch.randn(30, 8)
    targets = torch.randint(30, (2000,))
    exact = summed_cross_entropy(hidden, head, targets, torch.ones(2000), None, torch.float32)
    rough = summed_cross_entropy(hidden, head, targets, torch.ones(2000), None, torch.bfloat16)
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=5e-3)


def test_in_the_room_of_other_calls_loss_and_gradients_are_the_same() -> None:
    """Larger ones and smaller ones before it have left their numbers there."""
    torch.manual_seed(0)
    head, workspace = torch.randn(30, 8), Workspace()
    for n in (5, 40, 3, 40, 11):
        hidden, targets = torch.randn(n, 8, requires_grad=True), torch.randint(30, (n,))
        found, fresh = (
            summed_cross_entropy(hidden, head, targets, torch.full((n,), 0.5), None, torch.float32, workspace=one)
            for one in (workspace, None)
        )
        assert found.item() == fresh.item()
        slopes = [torch.autograd.grad(one, hidden)[0] for one in (found, fresh)]
        assert torch.equal(*slopes)


def test_no_learnt_token_is_no_loss_and_no_gradient() -> None:
    hidden = torch.randn(0, 4, requires_grad=True)
    none = torch.zeros(0, dtype=torch.long)
    loss = summed_cross_entropy(hidden, torch.randn(7, 4), none, torch.zeros(0), None, torch.float32)
    loss.backward()
    assert loss.item() == 0.0


def test_rows_are_laid_so_that_each_target_is_predicted_from_the_token_before_it() -> None:
    row = lay([Tokens((7, 8, 9), (1.0, 0.0, 0.5)), Tokens((5, 6), (0.0, 1.0))])
    assert row.ids.tolist() == [7, 8, 9, 5, 6]
    assert row.positions.tolist() == [0, 1, 2, 0, 1]
    assert row.documents == (Laid((3, 2)),)
    assert row.kept.tolist() == [1, 3], "the first token of a document has nothing before it"
    assert row.targets.tolist() == [9, 6]
    assert row.weights.tolist() == [0.5, 1.0]


def test_lengths_sum_to_the_row() -> None:
    rows = random_rows((4, 1, 9))
    assert sum(one.n_tokens for one in lay(rows).documents) == len(lay(rows).ids) == 14
