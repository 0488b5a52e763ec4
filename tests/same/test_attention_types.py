"""Attention whose products are in bfloat16 where documents are long, against the same in float32."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tunesmith.learn.attention import Laid, _parts
from tunesmith.learn.merged_attention import MANY_KEYS, _computed_in, merged_attention

ROUNDED = 2**-8  # the half of a last place of bfloat16
LAYOUTS = {
    "short": (Laid((90, 60, 60)),),
    "long": (Laid((200, MANY_KEYS + 20)),),
    "a long beginning": (Laid((30, 40, 40), n_shared=MANY_KEYS + 3),),
}


def attended(parts: tuple[Tensor, ...], laid: tuple[Laid, ...]) -> list[Tensor]:
    """The output, and the slopes of query, key and value."""
    inputs = [part.clone().requires_grad_() for part in parts]
    out = merged_attention(*inputs, _parts(laid, 0), None)
    out.backward(torch.linspace(-1, 1, out.numel()).sin().reshape(out.shape).to(out.dtype))
    return [out.detach().float(), *(one.grad.float() for one in inputs if one.grad is not None)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_output_and_slopes_are_those_of_float32_up_to_rounding(name: str) -> None:
    laid = LAYOUTS[name]
    n_tokens = sum(one.n_tokens for one in laid)
    torch.manual_seed(0)
    low = tuple(torch.randn(n_tokens, n_heads, 16, dtype=torch.bfloat16) for n_heads in (4, 2, 2))
    exact, found = attended(tuple(one.float() for one in low), laid), attended(low, laid)
    assert len(exact) == len(found) == 4
    gaps = [float((one - other).norm() / other.norm()) for one, other in zip(found, exact, strict=True)]
    assert 0 < max(gaps) < 2 * ROUNDED, gaps


def test_only_many_keys_are_computed_in_the_type_of_the_values() -> None:
    value = torch.zeros(1, dtype=torch.bfloat16)
    few, many = _parts((Laid((100, 100)),), 0), _parts(LAYOUTS["a long beginning"], 0)
    assert {_computed_in(part, value) for part in few} == {torch.float32}
    assert [_computed_in(part, value) for part in many] == [
        torch.bfloat16,
        torch.float32,
        torch.float32,
        torch.bfloat16,
    ]
    assert {_computed_in(part, value.float()) for part in (*few, *many)} == {torch.float32}
