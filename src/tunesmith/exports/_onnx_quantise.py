"""A traced graph with its matrices in blocks of 4 or 8 bits, by the plan that keeps the answers and is smallest."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith import files, say
from tunesmith.exports._onnx_blocks import Blocks, Layout, quantise
from tunesmith.exports._onnx_graph import Product, add_initializer, products, put_weights, save
from tunesmith.exports._onnx_half import halve
from tunesmith.exports._onnx_measure import Probe, session

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

EIGHT = Layout(8, 32, symmetric=True)
KL_LIMIT = {4: 0.05, 8: 0.005}
"""Mean KL in nats up to which a plan is good enough; `docs/exports/web.md` says what these were measured against."""


@dataclass(frozen=True)
class Plan:
    """Which layout each matrix gets: `most`, but 8 bits for those whose name holds one of the words in `finer`."""

    name: str
    most: Layout
    finer: Sequence[str] = ()
    outer: bool = False
    """Whether the first and the last layer are finer too."""

    def layout(self, weight: str, n_layers: int) -> Layout:
        """The layout of one weight."""
        ends = (".layers.0.", f".layers.{n_layers - 1}.") if self.outer else ()
        return EIGHT if any(word in weight for word in (*self.finer, *ends)) else self.most


HEAD = ("lm_head", "embed_tokens")
FOUR = Layout(4, 32, symmetric=True)
FOUR_ZERO = Layout(4, 32, symmetric=False)
PLANS: Mapping[int, Sequence[Plan]] = {
    4: (
        Plan("4 bits", FOUR),
        Plan("4 bits, embedding and head in 8", FOUR_ZERO, HEAD),
        Plan("4 bits, embedding, head and down_proj in 8", FOUR_ZERO, (*HEAD, "down_proj")),
        Plan("the same, with v_proj and both outer layers", FOUR_ZERO, (*HEAD, "down_proj", "v_proj"), outer=True),
        Plan("4 bits for gate_proj and up_proj alone", FOUR_ZERO, (*HEAD, "down_proj", "att"), outer=True),
    ),
    8: (Plan("8 bits", EIGHT),),
}


@dataclass(frozen=True)
class Tried:
    """A plan, the size of its file, and what was measured."""

    plan: str
    n_bytes: int
    kl: float
    agreement: float

    def as_tree(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "plan": self.plan,
            "n_bytes": self.n_bytes,
            "kl": round(self.kl, 6),
            "agreement": round(self.agreement, 4),
        }


@dataclass(frozen=True)
class Chosen:
    """The plan that was taken, last of those that were tried."""

    tried: Sequence[Tried]
    limit: float
    n_data_files: int
    taken: Tried


@dataclass
class Store:
    """Matrices in blocks, each made once, whatever the number of plans that use it."""

    weights: Mapping[str, torch.Tensor]
    importance: Mapping[str, torch.Tensor]
    made: dict[tuple[str, Layout], Blocks] = field(default_factory=dict)

    def blocks(self, name: str, layout: Layout) -> Blocks:
        """A weight (N, K) in a layout."""
        if (name, layout) not in self.made:
            self.made[name, layout] = quantise(self.weights[name], layout, self.importance.get(name))
        return self.made[name, layout]


def choose(graph: Path, store: Store, probe: Probe, dtype: str, path: Path) -> Chosen:
    """Writes `path` by the smallest plan whose mean KL is within the limit; by the nearest one, where none is."""
    bits = int(dtype[1])
    limit, tried = KL_LIMIT[bits], []
    best: tuple[Tried, int, Path] | None = None
    with tempfile.TemporaryDirectory(prefix=files.PART, dir=path.parent) as folder:
        plans = PLANS[bits]
        with say.progress(f"quantise to {dtype}", len(plans), "plans") as bar:
            for index, plan in enumerate(plans):
                beside = Path(folder) / str(index) / path.name
                beside.parent.mkdir()
                model = put_blocks(graph, store, plan)
                if dtype.endswith("f16"):
                    halve(model)
                n_data_files = save(model, beside)
                one = Tried(plan.name, files.size_bytes(beside.parent), **probe.measure(session(beside)))
                tried.append(one)
                bar.advance(1, f"KL {one.kl:.4f}")
                if best is None or one.kl < best[0].kl:
                    best = (one, n_data_files, beside)
                if one.kl <= limit:
                    break
        assert best is not None
        for file in best[2].parent.iterdir():
            shutil.move(file, path.parent / file.name)
    return Chosen(tried, limit, best[1], best[0])


def put_blocks(graph: Path, store: Store, plan: Plan) -> ir.Model:
    """The graph with its matrices in blocks; an embedding that is the head's matrix too is stored once for both."""
    model = put_weights(graph, store.weights, turn=False)
    n_layers = sum(1 for one in model.graph.outputs if str(one.name).endswith(".key"))
    model.graph.opset_imports["com.microsoft"] = 1
    stored: dict[str, _Stored] = {}
    for product in list(products(model)):
        layout = plan.layout(product.weight, n_layers)
        blocks = store.blocks(product.weight, layout)
        stored[product.weight] = _store(model, product.weight, blocks)
        _multiply(model, product, stored[product.weight])
    for node in list(_lookups(model)):
        name = str(node.inputs[0].name)
        if name not in stored:
            width = store.weights[name].shape[1]
            layout = plan.layout(name, n_layers)
            if width % layout.block:
                continue
            stored[name] = _store(model, name, store.blocks(name, layout))
        elif stored[name].blocks.shape[1] % stored[name].blocks.layout.block:
            continue
        _look_up(model, node, stored[name])
    _drop_unused(model)
    return model


@dataclass(frozen=True)
class _Stored:
    blocks: Blocks
    levels: ir.Value
    scales: ir.Value
    zeros: ir.Value | None


def _store(model: ir.Model, name: str, blocks: Blocks) -> _Stored:
    import onnx_ir as ir

    def put(part: str, tensor: torch.Tensor | None) -> ir.Value | None:
        if tensor is None:
            return None
        full = f"{name}.{part}"
        return add_initializer(model, full, ir.tensor(tensor.contiguous().numpy(), name=full))

    levels, scales = put("levels", blocks.levels), put("scales", blocks.scales)
    assert levels is not None
    assert scales is not None
    return _Stored(blocks, levels, scales, put("zeros", blocks.zeros))


def _multiply(model: ir.Model, product: Product, stored: _Stored) -> None:
    import onnx_ir as ir

    layout, (n_rows, n_columns) = stored.blocks.layout, stored.blocks.shape
    inputs = [
        product.node.inputs[0],
        stored.levels,
        stored.scales,
        *([stored.zeros] if stored.zeros is not None else []),
    ]
    attributes = {"K": n_columns, "N": n_rows, "bits": layout.bits, "block_size": layout.block, "accuracy_level": 4}
    node = ir.node("MatMulNBits", inputs, attributes, domain="com.microsoft", name=f"{product.weight}/product")
    _replace(model, product.node, node)


def _look_up(model: ir.Model, lookup: ir.Node, stored: _Stored) -> None:
    import numpy as np
    import onnx_ir as ir

    name, layout = str(stored.levels.name), stored.blocks.layout
    shape = add_initializer(
        model, f"{name}/shape", ir.tensor(np.array([stored.blocks.shape[0], -1]), name=f"{name}/shape")
    )
    flat = ir.node("Reshape", [stored.levels, shape], name=f"{name}/rows")
    inputs = [flat.outputs[0], lookup.inputs[1], stored.scales, *([stored.zeros] if stored.zeros is not None else [])]
    attributes = {"gather_axis": 0, "quantize_axis": 1, "bits": layout.bits, "block_size": layout.block}
    node = ir.node("GatherBlockQuantized", inputs, attributes, domain="com.microsoft", name=f"{name}/lookup")
    model.graph.insert_before(lookup, flat)
    _replace(model, lookup, node)


def _replace(model: ir.Model, old: ir.Node, new: ir.Node) -> None:
    was, now = old.outputs[0], new.outputs[0]
    now.shape, now.type, name = was.shape, was.type, was.name
    model.graph.insert_before(old, new)
    was.replace_all_uses_with(now, replace_graph_outputs=True)
    model.graph.remove(old, safe=True)
    now.name = name


def _lookups(model: ir.Model) -> Iterator[ir.Node]:
    """The embeddings: rows of a float matrix, found by token id."""
    for node in model.graph:
        if node.op_type == "Gather" and node.inputs[1] is not None and node.inputs[1].name == "input_ids":
            yield node


def _drop_unused(model: ir.Model) -> None:
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    RemoveUnusedNodesPass()(model)
