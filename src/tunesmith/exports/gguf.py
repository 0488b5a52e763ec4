from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from tunesmith import files
from tunesmith.artifact import Export, Label, Model, Precision, Variant
from tunesmith.errors import ExportError, Fault
from tunesmith.exports import _conversion, _converter, _plain
from tunesmith.machine import Machine
from tunesmith.recipe import Part
from tunesmith.text import pretokenizer
from tunesmith.text.template import Text
from tunesmith.weights.facts import BaseFacts

Type = Literal["f32", "f16", "bf16", "q8_0"]
LARGEST_F16 = 65504.0
BYTES_A_WEIGHT: Mapping[str, float] = {"f32": 4, "f16": 2, "bf16": 2, "q8_0": 34 / 32}  # q8_0: 32 weights and a scale
ABOUT: Mapping[str, tuple[Precision, Label, str]] = {
    "f32": ("float32", "exact", "every weight as it is"),
    "f16": ("float16", "exact", "weights rounded once to float16; norms stay float32"),
    "bf16": ("bfloat16", "exact", "weights rounded once to bfloat16; norms stay float32"),
    "q8_0": ("8bit", "quantised", "weights in 8 bits, 32 to a scale; norms stay float32"),
}
NEEDS_SENTENCEPIECE = frozenset({"GemmaForCausalLM", "Gemma2ForCausalLM"})


class Gguf(Part):
    """One GGUF file a type, written by llama.cpp's own converter, for llama.cpp, Ollama and all that stands on them."""

    kind: ClassVar[str] = "gguf"
    needs: ClassVar[tuple[str, ...]] = ()
    runtimes: ClassVar[tuple[str, ...]] = ("llama_cpp",)
    apart: ClassVar[bool] = True

    types: tuple[Type, ...] = Field(default=("f16", "q8_0"), min_length=1)
    """Types of the weights, a file each: f32, f16, bf16 or q8_0."""
    llama_cpp: str | None = None
    """Folder of a llama.cpp checkout whose converter is used instead of the installed one."""

    def refuse(self, facts: BaseFacts, machine: Machine) -> list[Fault]:
        """Why a model of this architecture and tokenizer cannot become GGUF."""
        if more := _plain.faults(facts):
            return more
        try:
            converter = _converter.find(self.llama_cpp)
        except ExportError as error:
            return list(error.faults)
        name = _converter.architecture_of(facts)
        if name not in converter.architectures:
            return [
                Fault(
                    "export/unknown-architecture",
                    f"llama.cpp's converter does not know {name or 'a model without an architecture'}",
                    fix="export to web or safetensors, or set llama_cpp to a newer llama.cpp checkout",
                    file=facts.name,
                )
            ]
        words = _tokenizer_faults(facts, converter, name)
        ends = [] if words else _end_faults(facts)  # which a tokenizer has to be read for
        return [*words, *ends, *_scale_faults(facts, name)]

    def disk_bytes(self, facts: BaseFacts) -> int:
        """An upper bound: the weights in each type, and the tokenizer."""
        weights = sum(facts.n_parameters * self._bytes_a_weight(facts, one) for one in self.types)
        return int(weights * 1.02) + len(self.types) * (256 * facts.vocab_size + (1 << 20))

    def _bytes_a_weight(self, facts: BaseFacts, one: Type) -> float:
        rows = (facts.hidden_size, int(facts.text_config.get("intermediate_size") or 0))
        if one == "q8_0" and any(row % 32 for row in rows):
            return BYTES_A_WEIGHT["f16"]  # rows that are no whole blocks stay in float16
        return BYTES_A_WEIGHT[one]

    def write(self, model: Model, made: Mapping[str, Export], into: Path) -> Export:
        """`model-TYPE.gguf` for each type.

        Raises:
            ExportError: what `refuse` finds, `export/beyond-float16`, or `export/converter-failed`.
        """
        with self.begun(model, into) as written:
            return written()

    @contextmanager
    def begun(self, model: Model, into: Path) -> Iterator[Callable[[], Export]]:
        """The converter at work; gives what waits for it. Either raises what `write` does."""
        faults = self.refuse(BaseFacts.read(model.folder), Machine.look(into))
        if faults:
            raise ExportError(faults)
        if "f16" in self.types:
            _fits_float16(model.folder)
        converter = _converter.find(self.llama_cpp)
        text = Text.read(model.folder)
        paths: dict[str, Path] = {one: into / f"model-{one}.gguf" for one in dict.fromkeys(self.types)}
        told = _conversion.settings(text, model.raw_text)
        about = {"converter": str(converter.root.parent.name if not self.llama_cpp else converter.root)}
        facts = BaseFacts.read(model.folder)
        with _conversion.converting(converter, model.folder, _name(model.folder), paths, told) as converted:

            def written() -> Export:
                structure = converted()
                named = {"pretokenizer": structure} if structure else {}
                variants = {one: _variant(one, path, facts) for one, path in paths.items()}
                return Export(self.kind, into, variants, about | named)

            yield written


def _variant(one: str, path: Path, facts: BaseFacts) -> Variant:
    precision, label, note = ABOUT[one]
    if one == "f32" and _has_gelu(facts):
        precision, note = "float16", f"{note}; llama.cpp takes gelu from a table of float16"
    return Variant(one, path, files.size_bytes(path), precision, label, {"note": note})


def _has_gelu(facts: BaseFacts) -> bool:
    """Whether its MLP bends by gelu, as in Gemma and GPT-2, which names it in one of three ways."""
    names = (facts.text_config.get(key) for key in ("hidden_activation", "hidden_act", "activation_function"))
    return str(next((name for name in names if name), "")).startswith("gelu")


def _name(folder: Path) -> str:
    """What programs show: the run's name for `runs/NAME/model`, else the folder's."""
    whole = folder.resolve()
    return whole.parent.name if whole.name == "model" else whole.name


def _tokenizer_faults(facts: BaseFacts, converter: _converter.Converter, architecture: str) -> list[Fault]:
    if (facts.folder / "tokenizer.model").is_file():
        return []
    if architecture in NEEDS_SENTENCEPIECE:
        return [
            Fault(
                "export/no-tokenizer-model",
                f"{architecture} needs the SentencePiece file tokenizer.model, and it is not here",
                fix="copy tokenizer.model from the base model beside config.json",
                file=str(facts.folder),
            )
        ]
    try:
        tree = json.loads((facts.folder / "tokenizer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [
            Fault(
                "export/no-tokenizer",
                f"tokenizer.json cannot be read: {error}",
                fix="copy the base model's tokenizer files beside config.json",
                file=str(facts.folder),
            )
        ]
    return [*_pretokenizer_faults(tree, facts, converter), *_vocabulary_faults(tree, facts)]


def _pretokenizer_faults(tree: Mapping[str, Any], facts: BaseFacts, converter: _converter.Converter) -> list[Fault]:
    model = tree.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        return []  # not cut by rules: the converter has its own ways, and says so when it has none
    if pretokenizer.name_of(tree) or converter.knows_by_hash(facts.folder):
        return []
    return [
        Fault(
            "export/unknown-tokenizer",
            "llama.cpp has no name for the way this tokenizer cuts a text before it merges (pre_tokenizer)",
            fix="export to web or safetensors, or train with a base whose tokenizer llama.cpp knows",
            file=str(facts.folder / "tokenizer.json"),
        )
    ]


def _vocabulary_faults(tree: Mapping[str, Any], facts: BaseFacts) -> list[Fault]:
    vocabulary = (tree.get("model") or {}).get("vocab") or {}
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else [len(vocabulary) - 1]
    largest = max([*ids, *(int(token["id"]) for token in tree.get("added_tokens") or ())], default=0)
    if largest < facts.vocab_size:
        return []
    return [
        Fault(
            "export/vocabulary-too-small",
            f"the tokenizer has a token {largest}, and the model only {facts.vocab_size} rows",
            fix="resize the model's embedding to its tokenizer, or take the tokenizer that belongs to it",
            file=str(facts.folder / "tokenizer.json"),
        )
    ]


def _end_faults(facts: BaseFacts) -> list[Fault]:
    extra = _conversion.extra_ends(Text.read(facts.folder))
    if len(extra) <= 2:
        return []
    return [
        Fault(
            "export/too-many-end-tokens",
            f"GGUF holds two end tokens besides the tokenizer's own and the well-known ones; here are {len(extra)}",
            fix="leave the two that the chat template writes in eos_token_id of generation_config.json",
            file=str(facts.folder / "generation_config.json"),
        )
    ]


def _scale_faults(facts: BaseFacts, architecture: str) -> list[Fault]:
    """Gemma 2 and 3: GGUF has no key for their attention scale, and llama.cpp derives it from the model's size."""
    if not architecture.startswith(("Gemma2", "Gemma3For")):
        return []
    inner = facts.text_config
    largest = facts.n_layers == (46 if architecture.startswith("Gemma2") else 62)  # the 27B models
    derived = facts.hidden_size / int(inner["num_attention_heads"]) if largest else inner.get("head_dim", 256)
    asked = inner.get("query_pre_attn_scalar", 256)
    if asked == derived:
        return []
    return [
        Fault(
            "export/attention-scale",
            f"query_pre_attn_scalar is {asked}, and llama.cpp would compute with {derived:g}: other answers",
            fix="export to web or safetensors",
            file=facts.name,
            key="query_pre_attn_scalar",
        )
    ]


def _fits_float16(folder: Path) -> None:
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - not a dict
                weight = weights.get_tensor(name)
                largest = float(weight.abs().max()) if weight.numel() else 0.0
                if weight.ndim > 1 and not largest <= LARGEST_F16:
                    raise ExportError(
                        Fault(
                            "export/beyond-float16",
                            f"{name} holds {largest:g}, and float16 ends at {LARGEST_F16:g}",
                            fix="set types: [bf16, q8_0]",
                            file=str(file),
                        )
                    )
