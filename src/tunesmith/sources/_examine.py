"""Whether a folder of small files is a base that can be trained: said before any weight is fetched."""

from __future__ import annotations

import json
from pathlib import Path

from tunesmith.errors import Fault, SourceError
from tunesmith.weights.facts import BaseFacts

WORDS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


def examined(folder: Path, base: str) -> BaseFacts:
    """The facts of a folder.

    Raises:
        SourceError: with every reason why it cannot be a base.
    """
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise SourceError(_adapter(folder, base))
    facts = BaseFacts.read(folder, base)
    faults = [
        *_additions_faults(facts),
        *_class_faults(facts),
        *_quantised_faults(facts),
        *_word_faults(facts),
        *_word_code_faults(facts),
    ]
    if faults:
        raise SourceError(faults)
    return facts


def _additions_faults(facts: BaseFacts) -> list[Fault]:
    if not facts.additions:
        return []
    what = f"this model has a part ({facts.additions}) beside its own weights, which tuning would leave out"
    return [Fault("source/has-additions", what, fix="name the base that it was tuned from", file=facts.name)]


def _adapter(folder: Path, base: str) -> Fault:
    try:
        named = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError):
        named = None
    name, _, revision = base.partition("@")
    fetch = f"hf download {name}{f' --revision {revision}' if revision else ''} --local-dir adapter"
    here = base if Path(base).expanduser().is_dir() else f"adapter, once it is here: {fetch}"
    return Fault(
        "source/is-adapter",
        "this is a PEFT adapter, not a model: it holds only what was learnt on top of one",
        fix=f"to train, set base: {named or 'the model it was trained on'}; to export it as it is: "
        f"tunesmith export --to gguf {here}",
        file=base,
    )


def _class_faults(facts: BaseFacts) -> list[Fault]:
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = facts.model_type
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return []
    if facts.config.get("auto_map") and kind not in CONFIG_MAPPING:
        return [
            Fault(
                "source/remote-code",
                f"model type {kind!r} runs on Python code that comes with the weights, and tunesmith runs no such code",
                fix="choose a base that transformers knows itself",
                file=facts.name,
                key="auto_map",
            )
        ]
    if kind not in CONFIG_MAPPING:
        return [
            Fault(
                "source/unknown-model-type",
                f"the installed transformers does not know model type {kind!r}",
                fix="pip install -U transformers, or choose another base",
                file=facts.name,
                key="model_type",
            )
        ]
    return [
        Fault(
            "source/not-a-language-model",
            f"model type {kind!r} does not go on with a text: transformers has no causal language model for it",
            fix="choose a base that generates text",
            file=facts.name,
            key="model_type",
        )
    ]


def _quantised_faults(facts: BaseFacts) -> list[Fault]:
    quantised = facts.config.get("quantization_config")
    if not quantised:
        return []
    how = quantised.get("quant_method", "an unnamed method") if isinstance(quantised, dict) else "an unnamed method"
    return [
        Fault(
            "source/quantised",
            f"its weights are quantised already ({how}), and training needs the plain ones",
            fix="choose the model that this one was quantised from",
            file=facts.name,
            key="quantization_config",
        )
    ]


def _word_faults(facts: BaseFacts) -> list[Fault]:
    if any((facts.folder / name).is_file() for name in WORDS):
        return []
    return [
        Fault(
            "source/no-tokenizer",
            "there is no tokenizer here (tokenizer.json or tokenizer.model)",
            fix="copy the tokenizer files of the model beside config.json",
            file=facts.name,
        )
    ]


def _word_code_faults(facts: BaseFacts) -> list[Fault]:
    """Refused although transformers can be told not to run it: llama.cpp's converter cannot."""
    try:
        told = json.loads((facts.folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        told = {}
    maps = [tree.get("auto_map") for tree in (facts.config, told) if isinstance(tree, dict)]
    if not any("AutoTokenizer" in named for named in maps if isinstance(named, dict)):
        return []
    return [
        Fault(
            "source/remote-code",
            "its tokenizer runs on Python code that comes with the weights, and tunesmith runs no such code",
            fix="choose a base whose tokenizer transformers knows itself",
            file=facts.name,
            key="auto_map",
        )
    ]


def weighty(folder: Path, base: str) -> Path:
    """The folder, when its safetensors are all there.

    Raises:
        SourceError: `source/no-safetensors` or `source/weights-missing`.
    """
    here = {file.name for file in folder.glob("*.safetensors")}
    if not here:
        raise SourceError(no_safetensors(base, sorted(file.name for file in folder.glob("*.bin"))))
    index = folder / "model.safetensors.index.json"
    named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index.is_file() else set()
    absent = sorted(named - here)
    if absent:
        raise SourceError(
            Fault(
                "source/weights-missing",
                f"{len(absent)} of {len(named)} weight files are not here, such as {absent[0]}",
                fix="fetch the model again, whole",
                file=base,
            )
        )
    damaged = [fault for name in sorted(here) if (fault := _damage(folder / name, base)) is not None]
    if damaged:
        raise SourceError(damaged)
    return folder


def _damage(weights: Path, base: str) -> Fault | None:
    """Why a file is no whole safetensors: a pointer of Git LFS, or cut short. Only its header is read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="pt"):
            return None
    except (SafetensorError, OSError) as error:
        return Fault(
            "source/weights-damaged",
            f"{weights.name} is no whole safetensors file: {error}",
            fix="fetch it again, whole (where it came by git: git lfs pull)",
            file=base,
        )


def no_safetensors(base: str, others: list[str]) -> Fault:
    """Weights that are pickled are not read: a pickle may run any code."""
    if not others:
        return Fault(
            "source/no-weights", "there are no weights here", fix="give a folder with *.safetensors", file=base
        )
    return Fault(
        "source/no-safetensors",
        f"its weights are only in {others[0]}, a pickle, which may run any code when it is read",
        fix="choose a revision with *.safetensors, or, where you trust the file, convert it once with "
        "AutoModelForCausalLM.from_pretrained(...).save_pretrained(...) and give that folder",
        file=base,
    )
