from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from tunesmith import say
from tunesmith.artifact import Export, Label, Model, Precision, Variant
from tunesmith.errors import Fault
from tunesmith.exports import _web_files
from tunesmith.exports._onnx_graph import SHARD_BYTES
from tunesmith.exports._onnx_put_blocks import NOT_ROUNDED
from tunesmith.machine import Machine
from tunesmith.recipe import Part
from tunesmith.rooms import did_you_mean
from tunesmith.text.template import Text
from tunesmith.web import packages
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    import torch

    from tunesmith.exports._onnx_measure import Probe
    from tunesmith.exports._onnx_quantise import Chosen

Dtype = Literal["fp32", "fp16", "q8", "q4", "q4f16"]
SUFFIX: Mapping[str, str] = {"fp32": "", "fp16": "_fp16", "q8": "_quantized", "q4": "_q4", "q4f16": "_q4f16"}
PRECISION: Mapping[str, Precision] = {"fp32": "float32", "fp16": "float16", "q8": "8bit", "q4": "4bit", "q4f16": "4bit"}
BYTES_A_WEIGHT: Mapping[str, float] = {"fp32": 4.0, "fp16": 2.0, "q8": 1.2, "q4": 1.2, "q4f16": 1.2}
WASM: Mapping[str, float] = {"q8": 5.0, "fp32": 4.0, "q4": 1.2, "fp16": 4.0, "q4f16": 1.2}
"""Bytes a weight once loaded into WebAssembly, the quickest dtype first: q8 is unfolded to float32 there."""
WASM_BYTES = 4.0e9
NEEDS = {"onnx": "onnx", "onnx_ir": "onnx-ir", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"}
PLAIN_LAYERS = {"full_attention", "sliding_attention", "chunked_attention", "attention"}
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
TURNED = ("gpt2",)
GRAPH_BYTES = 20_000_000


class Web(Part):
    """A chat page and a Node script that run the model with Transformers.js: in a browser, offline, on WebGPU or WASM.

    The folder holds all that the page needs; `model/` inside it is a model folder as the Hugging Face Hub hosts them.
    """

    kind: ClassVar[str] = "web"
    needs: ClassVar[tuple[str, ...]] = ()
    runtimes: ClassVar[tuple[str, ...]] = ("onnxruntime", "transformers_js")
    apart: ClassVar[bool] = False

    dtypes: tuple[Dtype, ...] = Field(default=("q4", "q8"), min_length=1)
    """Forms of the weights, one set of files each. The page takes one: q4 on a GPU, q8 on the processor."""
    title: str = ""
    """Text: the name on the page; the folder's name when empty."""
    system: str = ""
    """Text: the system turn that every conversation on the page begins with; none when empty."""
    prompts: tuple[str, ...] = ()
    """Texts: questions that the page offers to begin with."""

    @field_validator("dtypes")
    @classmethod
    def _each_once(cls, value: tuple[Dtype, ...]) -> tuple[Dtype, ...]:
        return tuple(dict.fromkeys(value))

    def refuse(self, facts: BaseFacts, machine: Machine) -> list[Fault]:
        """What Transformers.js does not know, parts that are missing here, matrices too big for a browser."""
        return [
            *_missing_parts(),
            *_unknown_architecture(facts),
            *_odd_cache(facts),
            *self._not_rounded(facts),
            *self._too_big(facts),
        ]

    def disk_bytes(self, facts: BaseFacts) -> int:
        """Weights of each dtype, graphs, the page with its libraries, and what trying the 4-bit plans takes."""
        per_weight = sum(BYTES_A_WEIGHT[one] for one in self.dtypes)
        trials = 3.0 if {"q4", "q4f16"} & set(self.dtypes) else 0.0
        untied = facts.n_parameters + facts.vocab_size * facts.hidden_size  # half precision may keep a tied table twice
        return int((per_weight + trials) * untied) + GRAPH_BYTES * len(self.dtypes) + _web_files.PAGE_BYTES

    def write(self, model: Model, made: Mapping[str, Export], into: Path) -> Export:
        """Trace, put the weights in, round them as far as the answers allow, and lay the page beside them.

        Raises:
            ExportError: `export/not-traceable`, `export/web-not-rounded`, `export/web-no-numbers`.
        """
        with self.begun(model, into) as written:
            return written()

    @contextmanager
    def begun(self, model: Model, into: Path) -> Iterator[Callable[[], Export]]:
        """The graph traced and the model asked; gives what writes the files. Either raises what `write` does."""
        onnx = into / "model" / "onnx"
        onnx.mkdir(parents=True)
        _web_files.put_text(model.folder, onnx.parent)
        yield partial(self._written, model, _Writer.start(model, onnx), into)

    def _written(self, model: Model, writer: _Writer, into: Path) -> Export:
        variants: dict[str, Variant] = {dtype: writer.write(dtype) for dtype in self.dtypes}
        facts = BaseFacts.read(model.folder)
        wasm = self._on_the_processor(facts)
        _web_files.put_config(model.folder, into / "model", writer.data_files, self.dtypes, wasm)
        with say.progress("lay the page beside it"):
            _web_files.put_page(into, self._page(model, facts, variants, wasm))
        return Export(self.kind, into, variants, {"raw_text": model.raw_text, "transformers_js": packages.version()})

    def _page(self, model: Model, facts: BaseFacts, variants: Mapping[str, Variant], wasm: str) -> dict[str, Any]:
        folder = model.folder.resolve()
        name = folder.parent.name if folder.name == "model" else folder.name
        return {
            "title": self.title or name,
            "chat": facts.chat_template is not None and not model.raw_text,
            "lead": Text.read(model.folder).lead,
            "system": self.system,
            "prompts": list(self.prompts),
            "context": facts.context,
            "wasm": wasm,
            "variants": [
                {"dtype": name, "bytes": one.n_bytes, "kl": one.about.get("kl")} for name, one in variants.items()
            ],
        }

    def _on_the_processor(self, facts: BaseFacts) -> str:
        """The dtype that WebAssembly takes: the quickest of those that its memory holds."""
        roomy = [one for one in WASM if one in self.dtypes and WASM[one] * facts.n_parameters < WASM_BYTES]
        return roomy[0] if roomy else min(self.dtypes, key=WASM.__getitem__)

    def _not_rounded(self, facts: BaseFacts) -> list[Fault]:
        config = facts.text_config
        why = "keeps its experts in one block" if any(config.get(name) for name in EXPERTS) else ""
        why = why or ("stores its matrices the other way round" if facts.model_type in TURNED else "")
        rounded = [one for one in self.dtypes if PRECISION[one] in ("8bit", "4bit")]
        if not why or not rounded:
            return []
        what = f"{facts.model_type} {why}, and this export rounds only plain matrices: {rounded[0]} would stay float32"
        return [Fault("export/web-not-rounded", what, fix=NOT_ROUNDED, place=facts.name)]

    def _too_big(self, facts: BaseFacts) -> list[Fault]:
        largest = facts.vocab_size * facts.hidden_size
        out = []
        for dtype in self.dtypes:
            n_bytes = int(largest * {"fp32": 4, "fp16": 2}.get(dtype, 1.2))
            if n_bytes > SHARD_BYTES:
                what = (
                    f"the embedding alone takes {n_bytes / 1e9:.1f} GB in {dtype}, and a browser loads no file of 2 GB"
                )
                out.append(Fault("export/web-too-big", what, fix="set export.web.dtypes to [q4]", place=facts.name))
        return out


@dataclass
class _Writer:
    """The files of one model, a dtype at a time; what several dtypes need is made once."""

    graph: Path
    weights: Mapping[str, torch.Tensor]
    probe: Probe
    folder: Path
    store: Any
    data_files: dict[str, int] = field(default_factory=dict)

    @classmethod
    def start(cls, model: Model, folder: Path) -> _Writer:
        from tunesmith.exports._onnx_graph import trace
        from tunesmith.exports._onnx_measure import probe
        from tunesmith.exports._onnx_put_blocks import Store
        from tunesmith.weights.load import load

        graph = trace(model.folder)
        loaded = load(model.folder)
        with say.progress("ask the model itself"):
            asked = probe(loaded, Text.read(model.folder), model.raw_text, model.own_rows())
        weights = loaded.state_dict()
        return cls(graph, weights, asked, folder, Store(weights, asked.given))

    def write(self, dtype: str) -> Variant:
        path = self.folder / f"model{SUFFIX[dtype]}.onnx"
        about = self._rounded(dtype, path) if PRECISION[dtype] in ("8bit", "4bit") else self._plain(dtype, path)
        n_bytes = sum(file.stat().st_size for file in self.folder.glob(f"{path.name}*"))
        label: Label = "quantised" if PRECISION[dtype] in ("8bit", "4bit") else "exact"
        return Variant(dtype, path, n_bytes, PRECISION[dtype], label, about)

    def _plain(self, dtype: str, path: Path) -> dict[str, Any]:
        from tunesmith.exports._onnx_graph import put_weights, save
        from tunesmith.exports._onnx_half import halve
        from tunesmith.exports._onnx_measure import finite
        from tunesmith.exports._onnx_quantise import KL_LIMIT
        from tunesmith.exports._onnx_session import session

        with say.progress(f"write {dtype}"):
            model = put_weights(self.graph, self.weights)
            if dtype == "fp16":
                halve(model)
            self.data_files[path.name] = save(model, path)
            measured = self.probe.measure(session(path))
        finite(measured.kl, dtype)
        if measured.kl > KL_LIMIT[16]:
            say.warn(f"{dtype}: its answers are {measured.kl:.3f} nats away from the model's own")
        return measured.as_tree()

    def _rounded(self, dtype: str, path: Path) -> dict[str, Any]:
        from tunesmith.exports._onnx_quantise import choose

        chosen = choose(self.graph, self.store, self.probe, dtype, path)
        self.data_files[path.name] = chosen.n_data_files
        if chosen.taken.measured.kl > chosen.limit or chosen.taken.measured.is_far:
            say.warn(_too_far(dtype, chosen))
        return {
            **chosen.taken.measured.as_tree(),
            "plan": chosen.taken.plan,
            "limit": chosen.limit,
            "tried": [one.as_tree() for one in chosen.tried],
        }


def _too_far(dtype: str, chosen: Chosen) -> str:
    measured = chosen.taken.measured
    if measured.kl > chosen.limit:
        why = f"{measured.kl:.3f} nats from the model's own answers, where {chosen.limit} would do"
    else:
        why = f"another answer than the model's to {measured.n_changed} of {measured.n_rows} rows of its own data"
    better = "" if dtype == "q8" else "; q8 is nearer, ship that where each answer counts"
    return f"{dtype}: no way to round the weights is near enough. The nearest, {chosen.taken.plan}, is {why}{better}"


def known_types() -> tuple[str, ...]:
    """The architectures that the pinned Transformers.js generates text with."""
    return tuple(json.loads((packages.HERE / "model_types.json").read_text(encoding="utf-8")))


def _missing_parts() -> list[Fault]:
    missing = [package for module, package in NEEDS.items() if find_spec(module) is None]
    out = []
    if missing:
        what = f"the web export needs {', '.join(missing)}"
        out.append(Fault("export/web-parts-missing", what, fix="pip install 'tunesmith[web]'"))
    if packages.find() is None and packages.npm() is None:
        absent = "Node" if packages.node() is None else "npm"
        what = f"the page needs Transformers.js, which npm brings, and {absent} is not here, or too old"
        out.append(Fault("export/web-no-node", what, fix=packages.GET_NODE))
    return out


def _unknown_architecture(facts: BaseFacts) -> list[Fault]:
    known = known_types()
    if facts.model_type in known:
        return []
    what = f"Transformers.js {packages.version()} does not know the architecture {facts.model_type!r}"
    return [Fault("export/web-unknown-architecture", what, fix=did_you_mean(facts.model_type, known), place=facts.name)]


def _odd_cache(facts: BaseFacts) -> list[Fault]:
    """State other than keys and values of equal heads: recurrent layers, compressed keys, layers that share a cache."""
    config = facts.text_config
    layers = set(config.get("layer_types") or config.get("layers_block_type") or ()) - PLAIN_LAYERS
    reasons = [
        (layers, f"layers of type {', '.join(sorted(layers))}"),
        (config.get("kv_lora_rank"), "compressed keys and values"),
        (config.get("num_kv_shared_layers"), "layers that share their keys and values"),
        (not config.get("num_attention_heads") and not config.get("n_head"), "no attention heads"),
    ]
    return [
        Fault(
            "export/web-cache-form",
            f"{facts.model_type} has {why}: its cache is none of plain keys and values, which this export writes",
            fix="export to gguf instead",
            place=facts.name,
        )
        for odd, why in reasons
        if odd
    ]


__all__ = ["Dtype", "Web", "known_types"]
