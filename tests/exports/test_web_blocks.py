"""Weights in blocks: what a hand can compute, and what ONNX Runtime makes of the bytes."""

from __future__ import annotations

import pytest
import torch

from tunesmith.exports._onnx_blocks import Layout, quantise

LAYOUTS = [Layout(bits, block, symmetric) for bits in (4, 8) for block in (16, 32) for symmetric in (True, False)]


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_that_lie_on_the_levels_come_back_as_they_were(layout: Layout) -> None:
    top = 2**layout.bits - 1
    levels = torch.arange(3 * 2 * layout.block).reshape(3, -1) * 7 % (top + 1)
    levels[:, :: layout.block] = 0  # each block holds both ends
    levels[:, 1 :: layout.block] = top
    weight = 0.25 * (levels.float() - 2 ** (layout.bits - 1))
    assert torch.allclose(quantise(weight, layout).dequantised(), weight, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_bytes_have_the_shapes_that_the_runtime_reads(layout: Layout) -> None:
    blocks = quantise(random(5, 3 * layout.block), layout)
    assert tuple(blocks.levels.shape) == (5, 3, layout.block * layout.bits // 8)
    assert tuple(blocks.scales.shape) == (5, 3)
    assert (blocks.zeros is None) == layout.symmetric
    if blocks.zeros is not None:
        assert tuple(blocks.zeros.shape) == (5, 3 if layout.bits == 8 else 2)


def test_columns_that_fill_no_whole_block_are_filled_up() -> None:
    weight = random(4, 40)
    blocks = quantise(weight, Layout(8, 32, symmetric=True))
    assert tuple(blocks.scales.shape) == (4, 2)
    assert torch.allclose(blocks.dequantised(), weight, atol=0.03)


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_search_errs_less_than_plain_rounding(symmetric: bool) -> None:
    weight = random(64, 128)
    rows = weight.reshape(64, 4, 32)
    if symmetric:
        step = rows.abs().amax(-1, keepdim=True) / 7
        plain = ((rows / step).round().clamp(-8, 7) * step).flatten(1)
    else:
        low, high = rows.amin(-1, keepdim=True), rows.amax(-1, keepdim=True)
        step = (high - low) / 15
        zero = (-low / step).round()
        plain = (((rows / step + zero).round().clamp(0, 15) - zero) * step).flatten(1)
    ours = quantise(weight, Layout(4, 32, symmetric)).dequantised()
    assert (ours - weight).square().mean() < 0.95 * (plain - weight).square().mean()


def test_columns_that_matter_more_err_less() -> None:
    weight = random(64, 64)
    matters = torch.ones(64)
    matters[::4] = 100.0
    layout = Layout(4, 32, symmetric=False)
    plain = (quantise(weight, layout).dequantised() - weight).square()
    weighed = (quantise(weight, layout, matters).dequantised() - weight).square()
    assert weighed[:, ::4].mean() < 0.9 * plain[:, ::4].mean()


def test_a_block_of_zeros_stays_zero() -> None:
    for layout in LAYOUTS:
        assert torch.equal(quantise(torch.zeros(2, 64), layout).dequantised(), torch.zeros(2, 64))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_onnx_runtime_reads_the_same_numbers(layout: Layout) -> None:
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weight = random(48, 128)
    blocks = quantise(weight, layout)
    parts = {"levels": blocks.levels, "scales": blocks.scales}
    if blocks.zeros is not None:
        parts["zeros"] = blocks.zeros
    sizes = {"K": 128, "N": 48, "bits": layout.bits, "block_size": layout.block}
    node = helper.make_node("MatMulNBits", ["x", *parts], ["y"], domain="com.microsoft", **sizes)
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [128, 128])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [128, 48])],
        [numpy_helper.from_array(value.numpy(), name) for name, value in parts.items()],
    )
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = session.run(None, {"x": np.eye(128, dtype=np.float32)})[0].T
    assert np.abs(rows - blocks.dequantised().numpy()).max() < 1e-5
