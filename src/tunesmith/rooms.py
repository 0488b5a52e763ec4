"""The registration file: one table per room, from the name a person types to the class that answers.

Nothing is imported until a member is asked for. To add a member: one file in its room, one line here.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from tunesmith.errors import Fault, RecipeError

ROOMS: Mapping[str, Mapping[str, str]] = {
    "sources": {
        "bundle": "tunesmith.sources.bundle:Bundle",
        "gguf": "tunesmith.sources.gguf:Gguf",
        "folder": "tunesmith.sources.folder:Folder",
        "hub": "tunesmith.sources.hub:Hub",
    },
    "formats": {
        "messages": "tunesmith.formats.messages:Messages",
        "sharegpt": "tunesmith.formats.sharegpt:ShareGpt",
        "alpaca": "tunesmith.formats.alpaca:Alpaca",
        "completion": "tunesmith.formats.completion:Completion",
        "text": "tunesmith.formats.text:PlainText",
    },
    "risks": {
        "leaks": "tunesmith.risks.leaks:Leaks",
        "duplicates": "tunesmith.risks.duplicates:Duplicates",
        "near_duplicates": "tunesmith.risks.near_duplicates:NearDuplicates",
        "contradictions": "tunesmith.risks.contradictions:Contradictions",
        "secrets": "tunesmith.risks.secrets:Secrets",
        "personal_data": "tunesmith.risks.personal_data:PersonalData",
        "special_tokens": "tunesmith.risks.special_tokens:SpecialTokens",
        "wrong_encoding": "tunesmith.risks.wrong_encoding:WrongEncoding",
        "thin_answers": "tunesmith.risks.thin_answers:ThinAnswers",
        "unbalanced": "tunesmith.risks.unbalanced:Unbalanced",
    },
    "objectives": {
        "sft": "tunesmith.objectives.sft:Sft",
        "uft": "tunesmith.objectives.uft:Uft",
    },
    "methods": {
        "full": "tunesmith.methods.full:Full",
        "freeze": "tunesmith.methods.freeze:Freeze",
        "lora": "tunesmith.methods.lora:Lora",
        "qlora": "tunesmith.methods.qlora:Qlora",
        "adapter": "tunesmith.methods.adapter:Adapter",
        "prompt": "tunesmith.methods.prompt:Prompt",
        "ptuning": "tunesmith.methods.ptuning:Ptuning",
        "prefix": "tunesmith.methods.prefix:Prefix",
    },
    "exports": {
        "safetensors": "tunesmith.exports.safetensors:Safetensors",
        "gguf": "tunesmith.exports.gguf:Gguf",
        "ollama": "tunesmith.exports.ollama:Ollama",
        "web": "tunesmith.exports.web:Web",
    },
    "runtimes": {
        "torch": "tunesmith.runtimes.torch:Torch",
        "llama_cpp": "tunesmith.runtimes.llama_cpp:LlamaCpp",
        "ollama": "tunesmith.runtimes.ollama:Ollama",
        "onnxruntime": "tunesmith.runtimes.onnxruntime:OnnxRuntime",
        "transformers_js": "tunesmith.runtimes.transformers_js:TransformersJs",
    },
    "checks": {
        "same_prompt": "tunesmith.checks.same_prompt:SamePrompt",
        "same_tokens": "tunesmith.checks.same_tokens:SameTokens",
        "same_probabilities": "tunesmith.checks.same_probabilities:SameProbabilities",
        "same_answer": "tunesmith.checks.same_answer:SameAnswer",
        "stops": "tunesmith.checks.stops:Stops",
    },
    "metrics": {  # the first that fits the data is the one to decide by
        "json_match": "tunesmith.metrics.json_match:JsonMatch",
        "json_fields": "tunesmith.metrics.json_fields:JsonFields",
        "label": "tunesmith.metrics.label:Label",
        "number": "tunesmith.metrics.number:Number",
        "exact_match": "tunesmith.metrics.exact_match:ExactMatch",
        "normalised_match": "tunesmith.metrics.normalised_match:NormalisedMatch",
        "chrf": "tunesmith.metrics.chrf:Chrf",
        "rouge": "tunesmith.metrics.rouge:Rouge",
        "perplexity": "tunesmith.metrics.perplexity:Perplexity",
        "judge": "tunesmith.metrics.judge:Judge",
    },
}


def names(room: str) -> tuple[str, ...]:
    """The members of a room, in the order of the table."""
    return tuple(ROOMS[room])


def find(room: str, name: str) -> Any:
    """The class behind a name.

    Raises:
        RecipeError: `recipe/unknown-member`, with the nearest name and all that are known.
    """
    if name not in ROOMS[room]:
        raise RecipeError(
            Fault("recipe/unknown-member", f"{room} has no member {name!r}", fix=did_you_mean(name, ROOMS[room]))
        )
    module, _, attribute = ROOMS[room][name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def did_you_mean(word: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    """A line that names the nearest known word, if one is near, and all the known ones."""
    near = difflib.get_close_matches(word, list(known), n=1)
    guess = f"did you mean {near[0]!r}? " if near else ""
    return f"{guess}known here: {', '.join(sorted(known))}"
