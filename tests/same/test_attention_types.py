"""Attention whose products are in bfloat16, forward where documents are long and back by plain products, as in float32.

What is compared with is the same attention of the same numbers, all in float32.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tunesmith.learn import attention_products, merged_attention
from tunesmith.learn.attention_parts import AT_ONCE, FILLED_UP, Laid, Part, batches_of, documents_of, parts_of
from tunesmith.learn.attention_products import LEAST_LENGTH, LEAST_PAIRS, Products, Slopes, pays
from tunesmith.learn.merged_attention import MANY_KEYS, _computed_in

ROUNDED = 2**-8  # the half of a last place of bfloat16; a slope goes through several such roundings
MANY = math.isqrt(LEAST_PAIRS)
LAYOUTS = {
    "tiny": (Laid((LEAST_LENGTH - 1, LEAST_LENGTH)),),
    "short": (Laid((90, 60, 60)),),
    "uneven": (Laid((60, 103, 150, 3, 101, 1, 149, 152, 110)),),
    "middling": (Laid((MANY + 70, MANY, MANY, 20)),),
    "long": (Laid((200, MANY_KEYS + 20)),),
    "a beginning": (Laid((MANY, 140, 140), n_shared=MANY + 5),),
    "a long beginning": (Laid((20, 20, 20), n_shared=MANY_KEYS + 3),),
}
BY_PRODUCTS = {
    "tiny": [1],
    "short": [],
    "uneven": [6],
    "middling": [3],
    "long": [2],
    "a beginning": [4, "a part"],
    "a long beginning": [1],
}


@pytest.fixture
def by_products(monkeypatch: pytest.MonkeyPatch) -> list[int | str]:
    """What went back by products: how many documents, and each part in which all see all."""
    seen: list[int | str] = []

    class Counted(Products):
        def documents(self, documents: tuple[range, ...], n_first: int) -> Slopes:
            seen.append(len(documents))
            return super().documents(documents, n_first)

        def part(self, part: attention_products.Part) -> Slopes:
            seen.append("a part")
            return super().part(part)

    monkeypatch.setattr(merged_attention, "Products", Counted)
    return seen


def random_asked(laid: tuple[Laid, ...], n_first: int = 0) -> tuple[Tensor, ...]:
    """Query, key and value of 4 heads on 2."""
    n_tokens = sum(one.n_tokens for one in laid)
    torch.manual_seed(0)
    sizes = (n_tokens, 4), (n_first + n_tokens, 2), (n_first + n_tokens, 2)
    return tuple(torch.randn(n, n_heads, 16, dtype=torch.bfloat16) for n, n_heads in sizes)


def attended(asked: tuple[Tensor, ...], laid: tuple[Laid, ...], n_first: int = 0) -> list[Tensor]:
    """The output, and the slopes of query, key and value."""
    inputs = [part.clone().requires_grad_() for part in asked]
    out = merged_attention.merged_attention(*inputs, parts_of(laid, n_first), None)  # type: ignore[arg-type]
    out.backward(torch.linspace(-1, 1, out.numel()).sin().reshape(out.shape).to(out.dtype))
    return [out.detach().float(), *(one.grad.float() for one in inputs if one.grad is not None)]


def gaps(asked: tuple[Tensor, ...], laid: tuple[Laid, ...], n_first: int = 0) -> list[float]:
    """How far output and slopes are from those of float32, as a share of their length."""
    exact = attended(tuple(one.float() for one in asked), laid, n_first)
    found = attended(asked, laid, n_first)
    assert len(exact) == len(found) == 4
    assert all(one.isfinite().all() for one in found)
    return [float((one - other).norm() / other.norm()) for one, other in zip(found, exact, strict=True)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_output_and_slopes_are_those_of_float32_up_to_rounding(name: str, by_products: list[int | str]) -> None:
    apart = gaps(random_asked(LAYOUTS[name]), LAYOUTS[name])
    assert by_products == BY_PRODUCTS[name]
    assert 0 < max(apart) < 3 * ROUNDED, apart


def test_a_prefix_before_all_goes_back_by_products_too(by_products: list[int | str]) -> None:
    laid = (Laid((200, 110)),)
    apart = gaps(random_asked(laid, MANY), laid, MANY)
    assert by_products == [2, "a part"]
    assert 0 < max(apart) < 3 * ROUNDED, apart


def test_blocks_of_few_queries_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_products, "AT_ONCE", 2 * 37 * MANY)
    for name in ("middling", "a beginning"):
        assert 0 < max(gaps(random_asked(LAYOUTS[name]), LAYOUTS[name])) < 3 * ROUNDED


def test_what_a_document_is_filled_up_with_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rubbish(attention_products.Workspace):
        def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
            return torch.full(shape, torch.nan, dtype=dtype, device=device)

    monkeypatch.setattr(attention_products, "Workspace", Rubbish)
    assert 0 < max(gaps(random_asked(LAYOUTS["uneven"]), LAYOUTS["uneven"])) < 3 * ROUNDED


def test_scores_in_the_tens_lose_nothing_more() -> None:
    """A score that all keys of a query have alike changes no share, and rounded by itself would change each by far."""
    query, key, value = random_asked(LAYOUTS["middling"])
    query[..., 0], key[..., 0] = 16.0, 16.0  # scores of 64 more, of which bfloat16 knows every half
    apart = gaps((query, key, value), LAYOUTS["middling"])
    assert max(apart[2:]) < 3 * ROUNDED, apart  # the query's own slope is as large as 16 x what cancels


def test_a_later_key_whose_score_is_beyond_all_numbers_is_not_seen() -> None:
    query, key, value = random_asked(LAYOUTS["middling"])
    key[MANY] = 300.0 * query[0, :2].sign()  # before it none has such a score, and exp of it is infinite
    assert all(one.isfinite().all() for one in attended((query, key, value), LAYOUTS["middling"]))


def test_only_many_keys_are_computed_in_the_type_of_the_values_forward() -> None:
    few, many = parts_of((Laid((100, 100)),), 0), parts_of(LAYOUTS["a long beginning"], 0)
    assert {_computed_in(part, torch.bfloat16) for part in few} == {torch.float32}
    assert [_computed_in(part, torch.bfloat16) for part in many] == [torch.bfloat16, torch.float32, torch.bfloat16]
    assert {_computed_in(part, torch.float32) for part in (*few, *many)} == {torch.float32}


def test_what_goes_back_by_products_is_long_and_in_bfloat16() -> None:
    few, many = parts_of((Laid((LEAST_LENGTH - 1, LEAST_LENGTH)),), 0)
    before_few, before_many = (Part(slice(0, n), slice(0, MANY)) for n in (MANY - 1, MANY))
    told = [pays(part, torch.bfloat16) for part in (few, many, before_few, before_many)]
    assert told == [False, True, False, True]
    assert not pays(many, torch.float32)


def test_documents_of_about_one_length_make_a_batch() -> None:
    documents = documents_of(parts_of((Laid((60, 60, 3, 150, 61, 149)),), 0))
    assert [one.start for one in documents] == [0, 60, 120, 123, 273, 334]
    batches = batches_of(documents)
    assert [[len(one) for one in batch] for batch in batches] == [[150, 149], [61, 60, 60], [3]]
    assert {one for batch in batches for one in batch} == set(documents)
    assert FILLED_UP * (150**2 + 149**2 + 61**2) < 3 * 150**2  # so that 61 is not with them


def test_a_batch_has_no_more_tokens_than_are_good_at_once() -> None:
    batches = batches_of((*(range(at, at + 100) for at in range(0, 900, 100)), range(AT_ONCE + 1)))
    assert [len(batch) for batch in batches] == [1, 4, 4, 1]
    assert AT_ONCE // 100 == 4
