"""Documents end to end in one row give what each gives alone: loss and every gradient."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tiny.models import save
from tiny.moved import gradients, plain_loss
from tiny.rows import random_rows
from tunesmith.learn.attention import NAME, attending_per_document, per_document
from tunesmith.learn.attention_parts import Laid, Part
from tunesmith.learn.loss import DocumentLoss
from tunesmith.text.example import Tokens
from tunesmith.weights.load import load

LENGTHS = (5, 30, 30, 17, 9, 2, 30)
FAMILIES = {
    "llama": {},
    "qwen3": {},
    "mistral": {"sliding_window": 8},
    "gemma3_text": {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_one_document_at_a_time(family: str, tmp_path: Path) -> None:
    model = load(save(tmp_path, family, **FAMILIES[family]))
    rows = random_rows(LENGTHS)
    before = model.config._attn_implementation
    plain = plain_loss(model, rows)
    expected = gradients(model, plain)
    with attending_per_document(model) as together:
        assert together
        assert model.config._attn_implementation == NAME
        loss = DocumentLoss(model)
        assert loss.has_plain_head
        packed = loss(rows)
        found = gradients(model, packed)
    assert model.config._attn_implementation == before
    assert packed.item() == pytest.approx(plain.item(), rel=1e-5)
    assert found.keys() == expected.keys()
    assert len(found) > 10
    for name, one in expected.items():
        assert (found[name] - one).norm() <= 1e-5 * one.norm(), name


def test_a_change_in_one_document_does_not_reach_another(tmp_path: Path) -> None:
    model = load(save(tmp_path))
    rows = random_rows((10, 12))
    other = Tokens(tuple(one + 1 for one in rows[0].ids), rows[0].weights)
    with attending_per_document(model), torch.no_grad():
        loss = DocumentLoss(model)
        both = loss(rows) - loss(rows[:1])
        changed = loss([other, rows[1]]) - loss([other])
    assert both.item() == pytest.approx(changed.item(), rel=1e-5)


def test_a_window_longer_than_the_document_changes_nothing() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, heads, 20, 8) for heads in (4, 2, 2))
    wide, _ = per_document(torch.nn.Module(), q, k, v, None, sliding_window=12, documents=(Laid((8, 12)),))
    none, _ = per_document(torch.nn.Module(), q, k, v, None, documents=(Laid((8, 12)),))
    assert torch.equal(wide, none)


@pytest.mark.parametrize("window", [1, 2, 3, 7, 8, 9])
def test_a_token_sees_exactly_its_window(window: int) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 9, 8) for _ in range(3))
    found, _ = per_document(torch.nn.Module(), q, k, v, None, sliding_window=window, documents=(Laid((9,)),))
    place = torch.arange(9)
    mask = (place[None] <= place[:, None]) & (place[None] > place[:, None] - window)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
    assert torch.allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("term", ["softcap", "s_aux", "position_bias"])
def test_terms_that_are_not_computed_are_refused_not_dropped(term: str) -> None:
    q = torch.randn(1, 1, 3, 4)
    with pytest.raises(NotImplementedError, match=term):
        per_document(torch.nn.Module(), q, q, q, None, documents=(Laid((3,)),), **{term: 30.0})


def test_a_model_that_needs_such_a_term_goes_one_document_at_a_time(tmp_path: Path) -> None:
    model = load(save(tmp_path, "gemma2", head_dim=16, sliding_window=64))
    rows = random_rows((6, 11, 4))
    plain = plain_loss(model, rows)
    expected = gradients(model, plain)
    with attending_per_document(model) as together:
        assert not together
        loss = DocumentLoss(model, together=together)
        assert loss.has_plain_head, "its logits have a soft cap, which is known"
        found = gradients(model, loss(rows))
    for name, one in expected.items():
        assert (found[name] - one).norm() <= 1e-5 * one.norm() + 1e-7, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("blind_to", ["all documents", "those of a family"])
def test_documents_that_would_see_each_other_are_found_out(
    dtype: torch.dtype, blind_to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunesmith.learn import attention

    model = load(save(tmp_path), dtype)
    with attending_per_document(model) as together:
        assert together
    known = attention.parts_of

    def blind(laid: tuple[Laid, ...], n_first: int) -> tuple[Part, ...]:
        if blind_to == "those of a family" and not laid[0].n_shared:
            return known(laid, n_first)
        every = slice(0, sum(one.n_tokens for one in laid))
        return (Part(every, every, 1),)

    monkeypatch.setattr(attention, "parts_of", blind)
    with attending_per_document(model) as together:
        assert not together


@pytest.mark.parametrize("is_tied", [True, False])
def test_the_gradient_of_an_embedding_is_whole_over_several_portions(is_tied: bool, tmp_path: Path) -> None:
    """One that is the head too, and one that is not; in a portion without learnt tokens there is no head's gradient."""
    model = load(save(tmp_path, tie_word_embeddings=is_tied), torch.float32)
    embedding: torch.nn.Embedding = model.get_input_embeddings()  # type: ignore[assignment]
    rows = random_rows(LENGTHS)
    with attending_per_document(model):
        loss = DocumentLoss(model)
        for portion in ([Tokens((3, 5, 3), (0.0, 0.0, 0.0))], rows[:3], rows[3:]):
            loss(portion).backward()
            found = embedding.weight.grad
            assert found is not None
            assert found.layout == torch.strided
    model.zero_grad()
    plain_loss(model, rows).backward()
    assert embedding.weight.grad is not None
    assert not embedding.sparse
    assert torch.allclose(found, embedding.weight.grad, atol=1e-6, rtol=1e-4)
