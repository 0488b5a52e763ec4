"""A beginning that rows share, computed once, against each row by itself: loss and every gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tiny.models import save
from tiny.moved import gradients, plain_loss, shaken
from tiny.rows import random_rows
from tunesmith.learn.attention import attending_per_document, narrowest_window, per_document
from tunesmith.learn.attention_parts import Laid
from tunesmith.learn.families import Sharing
from tunesmith.learn.loss import DocumentLoss, inner, lay
from tunesmith.methods.prefix import Prefix
from tunesmith.text.example import Tokens
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "mistral": {"sliding_window": 60},
    "gemma3_text": {"sliding_window": 60, "layer_types": ["sliding_attention", "full_attention"]},
}


def rows_alike() -> list[Tokens]:
    """Two beginnings, one with learnt tokens in it, before rows of uneven length; one row is longer than any window."""
    one, other = random_rows((40, 30), seed=1)
    quiet = Tokens(one.ids, tuple(0.0 for _ in one.ids))
    tails = random_rows((5, 9, 9, 3, 14, 2, 6), seed=2, share=0.7)
    made = [
        Tokens((*head.ids, *tail.ids), (*head.weights, *tail.weights))
        for head, tail in zip([quiet, quiet, quiet, other, other, other, other], tails, strict=True)
    ]
    return [*made, *random_rows((11, 90), seed=3)]


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_one_row_at_a_time(family: str, tmp_path: Path) -> None:
    model = load(save(tmp_path, family, **FAMILIES[family]))
    rows = rows_alike()
    plain = plain_loss(model, rows)
    expected = gradients(model, plain)
    sharing = Sharing(narrowest_window(model))
    alike = sharing.families(range(len(rows)), [row.ids for row in rows])
    assert sorted(one.n_shared for one in alike) == [0, 30, 40]
    assert len(lay(rows, families=alike).ids) == sum(len(row.ids) for row in rows) - 2 * 40 - 3 * 30
    with attending_per_document(model) as together:
        assert together
        found_loss = DocumentLoss(model, sharing=sharing)(rows)
        found = gradients(model, found_loss)
    assert found_loss.item() == pytest.approx(plain.item(), rel=1e-5)
    assert found.keys() == expected.keys()
    assert len(found) > 10
    for name, one in expected.items():
        assert (found[name] - one).norm() <= 1e-5 * one.norm(), name


def test_a_learnt_prefix_before_a_shared_beginning(tmp_path: Path) -> None:
    base = save(tmp_path)
    method = Prefix(length=4)
    model = shaken(method.wrap(load(base), BaseFacts.read(base)))
    rows = rows_alike()
    losses, slopes = [], []
    with attending_per_document(inner(model)) as together:
        assert together
        for sharing in (None, Sharing()):
            loss = DocumentLoss(model, sharing=sharing)(rows)
            losses.append(loss.item())
            slopes.append(gradients(model, loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert len(slopes[0]) >= 2
    for name, one in slopes[0].items():
        assert (slopes[1][name] - one).norm() <= 1e-5 * one.norm(), name


def dense(laid: tuple[Laid, ...]) -> Tensor:
    """(T, T): who sees whom."""
    n_tokens = sum(one.n_tokens for one in laid)
    mask = torch.zeros(n_tokens, n_tokens, dtype=torch.bool)
    at = 0
    for one in laid:
        shared = slice(at, at + one.n_shared)
        mask[shared, shared] = torch.ones(one.n_shared, one.n_shared).tril().bool()
        at += one.n_shared
        for length in one.lengths:
            own = slice(at, at + length)
            mask[own, shared] = True
            mask[own, own] = torch.ones(length, length).tril().bool()
            at += length
    return mask


@pytest.mark.parametrize("width", [8, 6], ids=["in parts", "by any kernel"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_over_families_is_that_of_a_dense_mask(width: int, dtype: torch.dtype) -> None:
    """Values of another width than keys go the other way."""
    laid = (Laid((3, 3, 5), n_shared=4), Laid((6, 2)), Laid((1, 1, 1), n_shared=7))
    n_tokens = sum(one.n_tokens for one in laid)
    torch.manual_seed(0)
    shapes = ((1, 4, n_tokens, 8), (1, 2, n_tokens, 8), (1, 2, n_tokens, width))
    asked = [torch.randn(shape).to(dtype).requires_grad_() for shape in shapes]
    found, _ = per_document(nn.Module(), *asked, None, documents=laid)
    wide = [one.detach().double().requires_grad_() for one in asked]
    q, k, v = wide[0], *(one.repeat_interleave(2, dim=1) for one in wide[1:])
    expected = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=dense(laid)).transpose(1, 2)
    given = torch.randn(expected.shape, dtype=torch.float64)
    slopes = torch.autograd.grad(found, asked, given.to(dtype))
    wanted = torch.autograd.grad(expected, wide, given.to(dtype).double())
    bound = 1e-6 if dtype == torch.float32 else 2**-7
    for one, other in zip((found, *slopes), (expected, *wanted), strict=True):
        assert one.dtype == dtype
        assert (one.double() - other).norm() <= bound * other.norm()
