"""A traced graph whose matrices are in blocks of 4 or 8 bits; an embedding that is the head too is stored once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ExportError, Fault
from tunesmith.exports._onnx_blocks import Blocks, Layout, quantise
from tunesmith.exports._onnx_gptq import Given, gptq
from tunesmith.exports._onnx_graph import Product, add_initializer, products, put_weights
from tunesmith.exports._onnx_trace import given

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

FLOAT_SHARE = 0.1  # routers, and tables of positions, stay as they are
NOT_ROUNDED = "set export.web.dtypes to [fp16, fp32]"


@dataclass
class Store:
    """Matrices in blocks, each made once, whatever the number of plans that use it."""

    weights: Mapping[str, torch.Tensor]
    given: Mapping[str, Given]
    made: dict[tuple[str, Layout], Blocks] = field(default_factory=dict)

    def blocks(self, name: str, layout: Layout, *, is_table: bool = False) -> Blocks:
        """A weight (N, K) in a layout. In 8 bits the nearest levels do, and in a table rows are looked up as well."""
        if (name, layout) not in self.made:
            given = self.given.get(name)
            if given is None or is_table or layout.bits == 8:
                self.made[name, layout] = quantise(
                    self.weights[name], layout, None if given is None else given.importance
                )
            else:
                alike = [other for other, one in self.given.items() if one is given]
                every = gptq([self.weights[one] for one in alike], layout, given)
                self.made.update({(one, layout): blocks for one, blocks in zip(alike, every, strict=True)})
        return self.made[name, layout]


@dataclass(frozen=True)
class _Stored:
    blocks: Blocks
    levels: ir.Value
    scales: ir.Value
    zeros: ir.Value | None


def put_blocks(graph: Path, store: Store, layout_of: Callable[[str, int], Layout], *, unfold: bool = False) -> ir.Model:
    """The graph with each matrix in the layout that `layout_of` names for its weight, given the number of layers.

    Products read the blocks as they are; with `unfold`, plain operations make float32 matrices of them, once, when the
    file is loaded: WebAssembly would make them anew for every token.

    Raises:
        ExportError: `export/web-not-rounded`, when more than a small share of the weights would stay float32.
    """
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    model = put_weights(graph, store.weights, turn=False)
    model.graph.opset_imports["com.microsoft"] = 1
    n_layers = sum(1 for one in model.graph.outputs if str(one.name).endswith(".key"))
    looked_up = dict(_lookups(model))
    stored: dict[str, _Stored] = {}
    for product in list(products(model)):
        name = product.weight
        layout, is_table = layout_of(name, n_layers), name in looked_up
        blocks = store.blocks(name, _even(layout) if is_table else layout, is_table=is_table)
        stored[name] = _store(model, name, blocks)
        (_unfold if unfold else _multiply)(model, product, stored[name])
    for name, node in looked_up.items():
        layout = _even(layout_of(name, n_layers))
        if store.weights[name].shape[1] % layout.block:
            continue
        _look_up(model, node, name, stored.get(name) or _store(model, name, store.blocks(name, layout, is_table=True)))
    RemoveUnusedNodesPass()(model)
    _refuse_float(model, {name: weight for name, weight in store.weights.items() if name not in looked_up})
    return model


def _refuse_float(model: ir.Model, weights: Mapping[str, torch.Tensor]) -> None:
    """Products of a form that `products` does not know would keep their matrices in float32 without a word."""
    left = {name for name in model.graph.initializers if name in weights and weights[name].dim() > 1}
    share = sum(weights[name].numel() for name in left) / max(1, sum(one.numel() for one in weights.values()))
    if share > FLOAT_SHARE:
        what = f"{share:.0%} of the weights would stay float32, such as {min(left)}: their products are not plain ones"
        raise ExportError(Fault("export/web-not-rounded", what, fix=NOT_ROUNDED))


def _even(layout: Layout) -> Layout:
    """The layout for a table that rows are looked up in: its zero is the middle level."""
    return Layout(layout.bits, layout.block, symmetric=True)


def _store(model: ir.Model, name: str, blocks: Blocks) -> _Stored:
    import onnx_ir as ir

    def put(part: str, tensor: torch.Tensor) -> ir.Value:
        full = f"{name}.{part}"
        return add_initializer(model, full, ir.tensor(tensor.contiguous().numpy(), name=full))

    zeros = None if blocks.zeros is None else put("zeros", blocks.zeros)
    return _Stored(blocks, put("levels", blocks.levels), put("scales", blocks.scales), zeros)


def _multiply(model: ir.Model, product: Product, stored: _Stored) -> None:
    import onnx_ir as ir

    layout, (n_rows, n_columns) = stored.blocks.layout, stored.blocks.shape
    zeros = [stored.zeros] if stored.zeros is not None else []
    inputs = [product.node.inputs[0], stored.levels, stored.scales, *zeros]
    attributes = {"K": n_columns, "N": n_rows, "bits": layout.bits, "block_size": layout.block, "accuracy_level": 4}
    node = ir.node("MatMulNBits", inputs, attributes, domain="com.microsoft", name=f"{product.weight}/product")
    model.graph.insert_before(product.node, node)
    _replace(model, product.node, node.outputs[0])


def _unfold(model: ir.Model, product: Product, stored: _Stored) -> None:
    """The matrix (K, N) from its blocks; no input of the model is needed for it, so the runtime does it as it loads."""
    import onnx_ir as ir

    assert stored.zeros is None
    layout, n_columns = stored.blocks.layout, stored.blocks.shape[1]
    steps = _Steps(model, product.node, f"{product.weight}/unfolded")
    levels = steps.add("Cast", [stored.levels], to=ir.DataType.FLOAT)  # (N, blocks, bytes)
    if layout.bits == 4:
        levels = _both_halves(steps, levels, [0, 0, -1])
    rows = steps.add("Reshape", [_scaled(steps, levels, stored.scales, layout), steps.whole("rows", [0, -1])])
    if n_columns % layout.block:
        ends = [steps.whole("start", [0]), steps.whole("end", [n_columns]), steps.whole("axis", [1])]
        rows = steps.add("Slice", [rows, *ends])
    matrix = ir.node("Transpose", [rows], {"perm": [1, 0]}, name=f"{steps.name}/turned")
    matrix.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    model.graph.insert_before(product.node, matrix)
    product.node.replace_input_with(1, matrix.outputs[0])


def _scaled(steps: _Steps, levels: ir.Value, scales: ir.Value, layout: Layout) -> ir.Value:
    """Weights from levels and the scale of their block."""
    centred = steps.add("Sub", [levels, steps.number("middle", 2.0 ** (layout.bits - 1))])
    return steps.add("Mul", [centred, steps.add("Unsqueeze", [scales, steps.whole("last", [-1])])])


def _lookups(model: ir.Model) -> Iterator[tuple[str, ir.Node]]:
    """The embeddings, rows of a float matrix found by token id, by the name of their weight."""
    for node in model.graph:
        if node.op_type != "Gather":
            continue
        table, ids = node.inputs[:2]
        if table is not None and ids is not None and ids.name == "input_ids":
            yield str(table.name), node


def _look_up(model: ir.Model, lookup: ir.Node, name: str, stored: _Stored) -> None:
    """Rows of the table by plain operations: the WebAssembly that can use a GPU has no GatherBlockQuantized."""
    import onnx_ir as ir

    layout = stored.blocks.layout
    steps = _Steps(model, lookup, str(given(lookup, 0).name))
    ids = given(lookup, 1)
    levels = steps.add("Gather", [stored.levels, ids], ir.DataType.UINT8, axis=0)  # (B, T, blocks, bytes)
    levels = steps.add("Cast", [levels], to=ir.DataType.FLOAT)
    if layout.bits == 4:
        levels = _both_halves(steps, levels, [0, 0, 0, -1])
    weights = _scaled(steps, levels, steps.add("Gather", [stored.scales, ids], axis=0), layout)
    _replace(model, lookup, steps.add("Reshape", [weights, steps.whole("rows", [0, 0, -1])]))


def _both_halves(steps: _Steps, packed: ir.Value, shape: list[int]) -> ir.Value:
    """Two levels of a byte side by side, the low half first."""
    shifted = steps.add("Mul", [packed, steps.number("sixteenth", 1 / 16)])
    high = steps.add("Floor", [shifted])
    low = steps.add("Sub", [packed, steps.add("Mul", [high, steps.number("sixteen", 16.0)])])
    last = steps.whole("last", [-1])
    pair = [steps.add("Unsqueeze", [half, last]) for half in (low, high)]
    return steps.add("Reshape", [steps.add("Concat", pair, axis=-1), steps.whole("levels", shape)])


class _Steps:
    """Nodes that are put in before another, each with a name of its own."""

    def __init__(self, model: ir.Model, before: ir.Node, name: str) -> None:
        self.model, self.before, self.name, self.n = model, before, name, 0

    def add(self, op: str, inputs: list[ir.Value], dtype: ir.DataType | None = None, **attributes: int) -> ir.Value:
        import onnx_ir as ir

        self.n += 1
        node = ir.node(op, inputs, attributes, name=f"{self.name}/{self.n}")
        out = node.outputs[0]
        out.name, out.type = f"{self.name}/{self.n}/out", ir.TensorType(dtype or ir.DataType.FLOAT)
        self.model.graph.insert_before(self.before, node)
        return out

    def number(self, word: str, value: float) -> ir.Value:
        import numpy as np

        return self._constant(word, np.array(value, dtype=np.float32))

    def whole(self, word: str, values: list[int]) -> ir.Value:
        import numpy as np

        return self._constant(word, np.array(values, dtype=np.int64))

    def _constant(self, word: str, value: Any) -> ir.Value:
        import onnx_ir as ir

        name = f"{self.name}/{word}"
        known = self.model.graph.initializers.get(name)
        return known if known is not None else add_initializer(self.model, name, ir.tensor(value, name=name))


def _replace(model: ir.Model, old: ir.Node, now: ir.Value) -> None:
    was = old.outputs[0]
    now.shape, now.type, name = was.shape, was.type, was.name
    was.replace_all_uses_with(now, replace_graph_outputs=True)
    model.graph.remove(old, safe=True)
    now.name = name
