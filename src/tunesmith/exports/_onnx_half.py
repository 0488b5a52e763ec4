"""A float32 graph computed in float16: what positions and masks need stays float32, and so do the logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.exports._onnx_graph import shape_of

if TYPE_CHECKING:
    import onnx_ir as ir

LARGEST = 65504.0
# A norm that was not fused squares what it is given; squares of more than 255 do not fit in float16.
WIDE = {"Pow", "ReduceMean", "Sqrt", "Reciprocal", "Cos", "Sin", "Range"}


def halve(model: ir.Model) -> None:
    """Turns the nodes between the embedding and the logits, and the cache, into float16, in place."""
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    graph = model.graph
    _tame(graph)
    half = _on_the_way(graph)
    for value in graph.inputs:
        if value.dtype == ir.DataType.FLOAT:
            value.dtype = ir.DataType.FLOAT16
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
    for node in list(graph):
        wide = node not in half or _is_wide(node)
        wanted = ir.DataType.FLOAT if wide else ir.DataType.FLOAT16
        for index, given in enumerate(node.inputs):
            if given is not None and given.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16) and given.dtype != wanted:
                node.replace_input_with(index, _as(model, given, wanted, node, casts))
        if node in half:
            _produce(node, wanted)
    _wide_logits(graph)
    RemoveUnusedNodesPass()(model)  # the float32 twins of the constants


def _tame(graph: ir.Graph) -> None:
    """A mask's lowest float32 number would be minus infinity in float16."""
    import numpy as np
    import onnx_ir as ir

    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.size == 1 and tensor.dtype == ir.DataType.FLOAT:
            array = tensor.numpy()
            if np.abs(array).max() > LARGEST:
                value.const_value = ir.tensor(np.clip(array, -LARGEST, LARGEST), name=value.name)


def _on_the_way(graph: ir.Graph) -> set[ir.Node]:
    """The nodes that the embedding or the cache lead to."""
    import onnx_ir as ir

    reached: set[ir.Value] = {value for value in graph.inputs if value.dtype == ir.DataType.FLOAT}
    nodes: set[ir.Node] = set()
    for node in graph:
        first = node.inputs[0] if node.inputs else None
        looks_up = node.op_type == "Gather" and node.inputs[1] is not None and node.inputs[1].name == "input_ids"
        turns = node.op_type == "Transpose" and first is not None and first.is_initializer()
        if looks_up or turns or (node.op_type != "Shape" and any(value in reached for value in node.inputs)):
            nodes.add(node)
            reached.update(node.outputs)
    return nodes


def _is_wide(node: ir.Node) -> bool:
    above = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    return node.op_type in WIDE or (node.op_type == "Add" and above is not None and above.op_type == "ReduceMean")


def _produce(node: ir.Node, wanted: ir.DataType) -> None:
    import onnx_ir as ir

    if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT:
        node.attributes["to"] = ir.AttrInt64("to", wanted)
    for value in node.outputs:
        if not value.uses() and not value.is_graph_output():
            value.type = value.shape = (
                None  # the statistics of a fused norm stay float32, its sum does not: nobody reads either
            )
        elif value.dtype in (ir.DataType.FLOAT, None):
            value.dtype = wanted


def _as(
    model: ir.Model,
    value: ir.Value,
    wanted: ir.DataType,
    before: ir.Node,
    made: dict[tuple[ir.Value, ir.DataType], ir.Value],
) -> ir.Value:
    """The value in the other type: a constant is turned, what is computed is cast once, where it is first needed."""
    import onnx_ir as ir

    if (value, wanted) not in made:
        if value.is_initializer():
            made[value, wanted] = _turned(model, value, wanted)
        else:
            cast = ir.node("Cast", [value], {"to": wanted}, name=f"{value.name}/{wanted.name}")
            cast.outputs[0].shape, cast.outputs[0].type = value.shape, ir.TensorType(wanted)
            model.graph.insert_before(before, cast)
            made[value, wanted] = cast.outputs[0]
    return made[value, wanted]


def _turned(model: ir.Model, value: ir.Value, wanted: ir.DataType) -> ir.Value:
    import numpy as np
    import onnx_ir as ir

    tensor = value.const_value
    assert tensor is not None
    name = f"{value.name}.{wanted.name.lower()}"

    def turn() -> ir.TensorProtocol:
        return ir.tensor(np.clip(tensor.numpy(), -LARGEST, LARGEST).astype(wanted.numpy()), name=name)

    lazy = ir.LazyTensor(turn, dtype=wanted, shape=shape_of(tensor), name=name)
    new = ir.Value(name=name, const_value=lazy, shape=value.shape, type=ir.TensorType(wanted))
    model.graph.register_initializer(new)
    return new


def _wide_logits(graph: ir.Graph) -> None:
    import onnx_ir as ir

    for index, value in enumerate(list(graph.outputs)):
        if value.name != "logits":
            continue
        cast = ir.node("Cast", [value], {"to": ir.DataType.FLOAT}, name="logits/FLOAT")
        out = cast.outputs[0]
        out.shape, out.type = value.shape, ir.TensorType(ir.DataType.FLOAT)
        value.name, out.name = "logits/FLOAT16", "logits"
        graph.append(cast)
        graph.outputs[index] = out
