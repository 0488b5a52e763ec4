"""GPTQ: where it is plain rounding, where it is the best rounding there is, and what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tunesmith.exports import _onnx_gptq
from tunesmith.exports._onnx_blocks import SHRINK, Blocks, Layout, quantise
from tunesmith.exports._onnx_gptq import DAMPING, Given, gptq
from tunesmith.exports._onnx_measure import probe
from tunesmith.text.template import Text
from tunesmith.weights.load import load

LAYOUTS = (Layout(4, 32, symmetric=True), Layout(4, 32, symmetric=False))
each = pytest.mark.parametrize("layout", LAYOUTS, ids=("symmetric", "zero"))


def alike(n_rows: int, n_columns: int) -> torch.Tensor:
    """Rows (n_rows, n_columns) whose columns say much the same, as those of a model do."""
    torch.manual_seed(0)
    return torch.randn(n_rows, 4) @ torch.randn(4, n_columns) + 0.3 * torch.randn(n_rows, n_columns)


def error(given: torch.Tensor, weight: torch.Tensor, blocks: Blocks) -> float:
    return float((given @ (weight - blocks.dequantised()).T).square().mean())


@each
def test_where_columns_have_nothing_to_do_with_each_other_it_is_rounding_to_the_nearest(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_onnx_gptq, "SHRINKS", SHRINK)
    torch.manual_seed(0)
    weight = torch.randn(7, 64)
    [turned] = gptq([weight], layout, Given([torch.eye(64)]))
    nearest = quantise(weight, layout)
    assert torch.allclose(turned.dequantised(), nearest.dequantised(), atol=1e-6)
    assert torch.equal(turned.levels, nearest.levels)


@each
@pytest.mark.parametrize("n_columns", [64, 40])  # 40: filled up to two blocks
def test_what_a_matrix_gives_is_nearer_by_far(layout: Layout, n_columns: int) -> None:
    seen, later = alike(400, n_columns).split(200)
    weight = torch.randn(16, n_columns)
    [turned] = gptq([weight], layout, Given(seen.split(50)))
    assert turned.shape == (16, n_columns)
    nearest = quantise(weight, layout, seen.square().mean(0))
    for given in (seen, later):
        assert error(given, weight, turned) < 0.35 * error(given, weight, nearest)


def test_no_other_level_of_the_last_column_would_be_nearer() -> None:
    given, weight = alike(50, 4), torch.randn(30, 4)
    [turned] = gptq([weight], Layout(4, 4, symmetric=False), Given([given]))
    moments = given.T @ given
    moments += DAMPING * moments.diagonal().mean() * torch.eye(4)

    def left(matrix: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nk,kj,nj->n", weight - matrix, moments, weight - matrix)

    taken, n_looked_at = turned.dequantised(), 0
    zeros, last = turned.zeros[:, 0].int(), (turned.levels[:, 0, 1] >> 4).int()
    for level in range(16):
        other = taken.clone()
        other[:, 3] = turned.scales[:, 0] * (level - (zeros & 15))
        n_looked_at += int((last != level).sum())
        assert bool((left(other) >= left(taken) - 1e-4).all())
    assert n_looked_at == 30 * 15


@each
def test_matrices_that_are_given_the_same_are_rounded_as_each_is_alone(layout: Layout) -> None:
    given = Given([alike(60, 64)])
    weights = [torch.randn(n, 64) for n in (8, 3, 5)]
    together = gptq(weights, layout, given)
    for weight, blocks in zip(weights, together, strict=True):
        [alone] = gptq([weight], layout, given)
        assert (blocks.levels != alone.levels).float().mean() < 0.02  # sums in another order may tip one
        assert torch.allclose(blocks.scales, alone.scales, rtol=0.05)


def test_a_wide_matrix_is_rounded_in_parts_that_know_nothing_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    given, weight = alike(60, 160), torch.randn(6, 160)
    monkeypatch.setattr(_onnx_gptq, "WIDEST", 100)
    [whole] = gptq([weight], LAYOUTS[1], Given([given]))
    widths = [64, 96]  # two blocks and three
    for part, seen, width in zip(weight.split(widths, 1), given.split(widths, 1), widths, strict=True):
        [alone] = gptq([part], LAYOUTS[1], Given([seen]))
        before = 0 if width == 64 else 64
        assert torch.allclose(whole.dequantised()[:, before : before + width], alone.dequantised(), atol=1e-5)


def test_a_column_that_is_given_nothing_is_rounded_too() -> None:
    given = alike(60, 32)
    given[:, 5] = 0
    weight = torch.randn(4, 32)
    [turned] = gptq([weight], LAYOUTS[1], Given([given]))
    assert float((turned.dequantised() - weight)[:, 5].abs().max()) < 0.5


def test_layers_that_are_given_the_same_are_known(learnt_model: Path) -> None:
    given = probe(load(learnt_model), Text.read(learnt_model), raw_text=False).given
    layer = "model.layers.1"
    query, key, value, out = (given[f"{layer}.self_attn.{one}_proj.weight"] for one in "qkvo")
    gate, up, down = (given[f"{layer}.mlp.{one}_proj.weight"] for one in ("gate", "up", "down"))
    assert query is key is value
    assert gate is up
    assert len({id(one) for one in (query, out, gate, down)}) == 4
