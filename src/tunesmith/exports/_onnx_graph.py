"""A traced graph with the weights of a model put into it; the graph is kept for the next model of the same shape."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith import files, say
from tunesmith.errors import ExportError, Fault
from tunesmith.exports._onnx_trace import WEIGHTS, given

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

SHARD_BYTES = 1_900_000_000  # a browser's ArrayBuffer ends at 2 GiB
TRACERS = ("torch", "transformers", "onnxscript", "onnx-ir")
SAYS_NOTHING_OF_SHAPES = (
    "_name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "eos_token_id",
    "bos_token_id",
)


@dataclass(frozen=True)
class Product:
    """A matrix product with a weight W (N, K): `x @ W.T`, and the transposition that feeds it, if there is one."""

    weight: str
    node: ir.Node
    transposed: ir.Node | None


def trace(folder: Path) -> Path:
    """The file of the graph of a model's config: from the cache, or traced now in a process of its own.

    Raises:
        ExportError: `export/not-traceable`, with the last line that the tracer said.
    """
    kept = _cache() / f"{_shape_hash(folder)}.onnx"
    if kept.is_file():
        return kept
    with say.progress("trace the graph"):
        command = [sys.executable, "-m", "tunesmith.exports._onnx_trace", str(folder), str(kept)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not kept.is_file():
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()
        raise ExportError(
            Fault(
                "export/not-traceable",
                f"torch could not turn this architecture into an ONNX graph: {said[-1].strip()}",
                fix="export to gguf or safetensors instead",
                file=str(folder),
            )
        )
    return kept


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("tunesmith") / "graphs"


def _shape_hash(folder: Path) -> str:
    """What decides the graph: the config, what the model has besides, the code, and the packages that it stands on."""
    import importlib
    import json

    from tunesmith.weights import additions

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shape = {key: value for key, value in config.items() if key not in SAYS_NOTHING_OF_SHAPES}
    told, code = additions.read(folder), [Path(__file__).with_name("_onnx_trace.py")]
    if told is not None:
        code.append(Path(importlib.import_module(additions.KINDS[told["kind"]]).__file__ or ""))
    return files.sha256_of(
        [shape, told, [files.sha256(one) for one in code], {name: version(name) for name in TRACERS}]
    )


def put_weights(graph: Path, weights: Mapping[str, torch.Tensor], *, turn: bool = True) -> ir.Model:
    """The graph with float32 weights in it; with `turn`, a matrix that only products use is stored as they read it."""
    import onnx_ir as ir

    model = ir.load(graph)
    for value in weight_inputs(model):
        model.graph.inputs.remove(value)
        value.const_value = _tensor(str(value.name), weights[str(value.name)])
        model.graph.register_initializer(value)
    del model.metadata_props[WEIGHTS]
    for product in list(products(model)) if turn else ():
        if product.transposed is not None and len(list(given(product.transposed, 0).uses())) == 1:
            _transpose(model, product, weights[product.weight])
    return model


def weight_inputs(model: ir.Model) -> list[ir.Value]:
    """The inputs of a traced graph that are weights."""
    names = set(model.metadata_props[WEIGHTS].splitlines())
    return [value for value in model.graph.inputs if value.name in names]


def products(model: ir.Model) -> Iterator[Product]:
    """Every matrix product with a two-dimensional weight that has its rows as outputs."""
    known = set(model.graph.initializers)
    for node in model.graph:
        if node.op_type != "MatMul" or node.domain not in ("", "ai.onnx"):
            continue
        right = node.inputs[1]
        above = right.producer() if right is not None else None
        if above is not None and above.op_type == "Transpose" and given(above, 0).name in known:
            yield Product(str(given(above, 0).name), node, above)


def _tensor(name: str, weight: torch.Tensor) -> ir.TensorProtocol:
    """A float32 tensor that is read, and made contiguous, only when it is written."""
    import onnx_ir as ir

    return ir.LazyTensor(
        lambda: ir.tensor(weight.detach().float().contiguous().numpy(), name=name),
        dtype=ir.DataType.FLOAT,
        shape=ir.Shape(list(weight.shape)),
        name=name,
    )


def _transpose(model: ir.Model, product: Product, weight: torch.Tensor) -> None:
    assert product.transposed is not None
    old, turned = given(product.transposed, 0), product.transposed.outputs[0]
    new = add_initializer(model, product.weight + ".T", _tensor(product.weight + ".T", weight.t()))
    turned.replace_all_uses_with(new)
    model.graph.remove(product.transposed, safe=True)
    del model.graph.initializers[str(old.name)]


def add_initializer(model: ir.Model, name: str, tensor: ir.TensorProtocol) -> ir.Value:
    """A new constant of the graph."""
    import onnx_ir as ir

    shape = shape_of(tensor)
    value = ir.Value(name=name, const_value=tensor, shape=shape, type=ir.TensorType(tensor.dtype))
    model.graph.register_initializer(value)
    return value


def shape_of(tensor: ir.TensorProtocol) -> ir.Shape:
    """The sizes of a constant."""
    import onnx_ir as ir

    return ir.Shape([size if isinstance(size, int) else None for size in tensor.shape])


def save(model: ir.Model, path: Path) -> int:
    """Write `path` and, beside it, its weights as `NAME.onnx_data`, `_data_1`...; gives the number of data files."""
    import onnx_ir as ir

    data = _data_tensors(model)
    shard_of, n_shards = _shards(data)
    for index in range(n_shards):
        location = f"{path.name}_data" + (f"_{index}" if index else "")
        mine = [value for value, shard in zip(data, shard_of, strict=True) if shard == index]
        stored = ir.external_data.convert_tensors_to_external(
            [value.const_value for value in mine], path.parent, location
        )
        for value, tensor in zip(mine, stored, strict=True):
            value.const_value = tensor
    ir.save(model, path)
    return n_shards


def _data_tensors(model: ir.Model) -> list[Any]:
    every = model.graph.initializers.values()
    return [value for value in every if value.const_value is not None and value.const_value.nbytes > 1024]


def _shards(values: list[Any]) -> tuple[list[int], int]:
    shard, filled, out = 0, 0, []
    for value in values:
        if filled and filled + value.const_value.nbytes > SHARD_BYTES:
            shard, filled = shard + 1, 0
        filled += value.const_value.nbytes
        out.append(shard)
    return out, shard + 1 if values else 0
