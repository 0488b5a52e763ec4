"""Shares of what is left, by hand, where the tokens that never come take nearly all."""

from __future__ import annotations

import math

import pytest

from tunesmith.runtimes.llama_cpp import likeliest


@pytest.mark.parametrize("far", [-3.0, -800.0])
def test_what_is_left_is_shared_out_however_little_it_is(far: float) -> None:
    """Two tokens, three to one; e to the -800 is no number above nothing any more."""
    found = likeliest({7: 0.0, 1: far + math.log(0.75), 2: far + math.log(0.25)}, {7}, 2)
    assert found == pytest.approx({1: math.log(0.75), 2: math.log(0.25)})
