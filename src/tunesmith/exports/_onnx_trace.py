"""The ONNX graph of a configuration, without weights: one graph for prefill and decoding, as Transformers.js wants it.

Run in a process of its own, `python -m tunesmith.exports._onnx_trace FOLDER FILE`: tracing patches torch while it
lasts, talks a lot, and keeps its memory. No weight is read: FOLDER needs a config.json, and additions.json
where the model has something beside its own weights.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith import files
from tunesmith.exports._onnx_matching import matched_where_they_end

if TYPE_CHECKING:
    import onnx_ir as ir
    from transformers import PreTrainedModel

# Every size differs from every other, so that the tracer takes no two of them for one.
BATCH, NEW, PAST = 2, 5, 7
WEIGHTS = "tunesmith.weights"  # metadata: the graph inputs that are weights, one name a line
KEEP = "num_logits_to_keep"


def trace(folder: Path) -> ir.Model:
    """The graph of the config in a folder; its weights are inputs, named as the model's state dict names them."""
    from onnxscript.optimizer import optimize_ir
    from transformers.exporters.onnxruntime_fusions import fuse_for_onnxruntime

    model = _shapes(folder)
    graph = _exported(model)
    _weights_as_inputs(graph, {name for name, _ in model.named_parameters(remove_duplicate=False)})
    with matched_where_they_end():
        optimize_ir(graph)
        fuse_for_onnxruntime(graph, "webgpu")
    _name_cache(graph)
    _keep_last_logits(graph)
    _name_sizes(graph)
    return graph


def _shapes(folder: Path) -> PreTrainedModel:
    """The model with memory that nothing was written to, but for the constants that its config decides.

    What it has beside its own weights is part of the graph.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    from tunesmith.weights import additions

    with no_init_weights():
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    model.tie_weights()
    told = additions.read(folder)
    if told is not None:
        additions.put_on(model, told)
    return model.eval()  # type: ignore[no-any-return]


def _exported(model: PreTrainedModel) -> ir.Model:
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_dynamo import register_cache_pytrees_for_model
    from transformers.exporters.exporter_onnx import OnnxExporter

    inputs = _inputs(model)
    register_cache_pytrees_for_model(model)
    config = OnnxConfig(dynamic_shapes=_dynamic(inputs), optimize=False)
    program: ir.Model = OnnxExporter().export(model, inputs, config=config).program
    return program


def _inputs(model: PreTrainedModel) -> dict[str, Any]:
    """New tokens after some that are in the cache."""
    import torch
    from transformers import DynamicCache

    config = model.config.get_text_config()
    n_heads = config.num_attention_heads
    n_kv = getattr(config, "num_key_value_heads", None) or n_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // n_heads
    cache = DynamicCache()  # without the config: sliding layers keep all keys, and the mask hides the old ones
    for layer in range(config.num_hidden_layers):
        cache.update(torch.zeros(BATCH, n_kv, PAST, head), torch.zeros(BATCH, n_kv, PAST, head), layer)
    return {
        "input_ids": torch.ones(BATCH, NEW, dtype=torch.long),
        "attention_mask": torch.ones(BATCH, PAST + NEW, dtype=torch.long),
        "position_ids": torch.arange(PAST, PAST + NEW)[None].repeat(BATCH, 1),
        "past_key_values": cache,
    }


def _dynamic(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Batch and lengths vary; heads and their size stay numbers, which the empty cache of Transformers.js needs."""
    import torch
    from transformers.exporters.exporter_dynamo import get_auto_dynamic_shapes

    auto = torch.export.Dim.AUTO

    def fixed(shape: Any) -> Any:
        if isinstance(shape, dict) and set(shape) == {0, 1, 2, 3}:  # (batch, heads, length, head size)
            return {0: auto, 2: auto}
        return type(shape)(map(fixed, shape)) if isinstance(shape, list | tuple) else shape

    return {name: fixed(get_auto_dynamic_shapes(value)) for name, value in inputs.items()}


def _weights_as_inputs(model: ir.Model, names: set[str]) -> None:
    """So that no optimisation looks at their content, or merges two that are equal by chance."""
    graph = model.graph
    weights = [value for name, value in list(graph.initializers.items()) if name in names]
    for value in weights:
        del graph.initializers[str(value.name)]
        value.const_value = None
        graph.inputs.append(value)
    model.metadata_props[WEIGHTS] = "\n".join(str(value.name) for value in weights)


def _name_cache(model: ir.Model) -> None:
    for value in (*model.graph.inputs, *model.graph.outputs):
        parts = str(value.name).split(".")  # input.past_key_values.layers.0.keys
        if "past_key_values" in parts:
            kind = "past_key_values" if parts[0] == "input" else "present"
            value.name = f"{kind}.{parts[-2]}.{parts[-1].removesuffix('s')}"


def _keep_last_logits(model: ir.Model) -> None:
    """Adds the input `num_logits_to_keep`: logits of that many last tokens, of all when it is 0."""
    import numpy as np
    import onnx_ir as ir

    head = _head(model)
    keep = ir.val(KEEP, ir.DataType.INT64, [])
    model.graph.inputs.append(keep)

    def constant(name: str, value: int) -> ir.Value:
        found = ir.Value(name=name, const_value=ir.tensor(np.array([value], dtype=np.int64), name=name))
        found.shape, found.type = ir.Shape([1]), ir.TensorType(ir.DataType.INT64)
        model.graph.register_initializer(found)
        return found

    axis = constant("keep.axis", 1)
    minus = ir.node("Neg", [keep], name="keep/minus")
    start = ir.node("Reshape", [minus.outputs[0], constant("keep.one", 1)], name="keep/start")  # -0 is the first token
    end = constant("keep.end", np.iinfo(np.int64).max)
    hidden = given(head, 0)
    kept = ir.node("Slice", [hidden, start.outputs[0], end, axis], name="keep/slice")
    kept.outputs[0].type = hidden.type
    n_batch, _, n_width = hidden.shape or (None, None, None)
    kept.outputs[0].shape = ir.Shape([n_batch, None, n_width])
    head.replace_input_with(0, kept.outputs[0])
    model.graph.insert_before(head, [minus, start, kept])


def _head(model: ir.Model) -> ir.Node:
    """The matrix product of the output head: the nearest one above the logits."""
    value = next(out for out in model.graph.outputs if out.name == "logits")
    node = value.producer()
    while node is not None and node.op_type != "MatMul":
        above = node.inputs[0]
        node = above.producer() if above is not None else None
    if node is None:
        raise ValueError("no matrix product leads to the logits")
    return node


def given(node: ir.Node, index: int) -> ir.Value:
    """An input that the operator cannot be without."""
    value = node.inputs[index]
    if value is None:
        raise ValueError(f"{node.op_type} {node.name} has no input {index}")
    return value


def _name_sizes(model: ir.Model) -> None:
    """Only `batch_size` is known to Transformers.js; it takes every other name of an empty cache's size for 0."""
    import onnx_ir as ir

    past, new, both = "past_sequence_length", "sequence_length", "total_sequence_length"
    names = {
        "input_ids": ("batch_size", new),
        "position_ids": ("batch_size", new),
        "attention_mask": ("batch_size", both),
        "logits": ("batch_size", "kept_sequence_length", None),
    }
    renamed: dict[str, str] = {}
    for value in (*model.graph.inputs, *model.graph.outputs):
        name = str(value.name)
        cache = name.split(".")[0]
        length = {"past_key_values": past, "present": both}.get(cache)
        wanted = ("batch_size", None, length, None) if length else names.get(name)
        if wanted is None:
            continue
        sizes = list(value.shape or ())
        renamed |= {str(old): word for old, word in zip(sizes, wanted, strict=True) if word and name != "logits"}
        value.shape = ir.Shape([word or old for word, old in zip(wanted, sizes, strict=True)])
    for node in model.graph:
        for value in node.outputs:
            if value.shape is not None and not value.is_graph_output():
                value.shape = ir.Shape([renamed.get(str(size), size) for size in value.shape])


def main(folder: str, file: str) -> None:
    """Trace a config folder into a file, which is there only when it is whole."""
    import onnx_ir as ir

    files.write_bytes(Path(file), ir.to_proto(trace(Path(folder))).SerializeToString())


if __name__ == "__main__":
    main(*sys.argv[1:])
