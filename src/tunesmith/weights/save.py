"""Models to folders: safetensors, and every text file of the base beside them as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tunesmith import files
from tunesmith.weights import additions
from tunesmith.weights.load import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WORDS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates",
    "generation_config.json",
)
"""Copied, never saved again: a tokenizer that is read and written may come back as another class and lose spaces."""
OF_ONE_TOKENIZER = (
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "additional_chat_templates",
)
"""Of these a tokenizer brings its own or has none; another's would speak in their place."""


def save(model: PreTrainedModel, words: Path, into: Path, dtype: str = "float32") -> None:
    """Write the model into `into`, cast once to `dtype` (`float32`, `bfloat16` or `float16`), in safetensors.

    What it has beside its own weights stands beside them. Tokenizer, chat template and generation config are copied
    from the folder `words`. The model is cast in place.
    """
    from transformers import GenerationConfig

    into.mkdir(parents=True, exist_ok=True)
    kind: torch.dtype = getattr(torch, dtype)
    model.to(kind)  # type: ignore[arg-type]
    model.config.dtype = kind
    if (words / "generation_config.json").is_file():
        model.generation_config = GenerationConfig()  # a base may ship one that transformers refuses to write again
    own = None if additions.of(model) is None else additions.split(model)[0]
    with quiet():
        model.save_pretrained(into, state_dict=own)
    additions.write(model, into)
    copy_words(words, into)


def copy_words(words: Path, into: Path) -> None:
    """The text files of a model folder, as they are."""
    for name in WORDS:
        file = words / name
        if file.is_dir():
            shutil.copytree(file, into / name, dirs_exist_ok=True)
        elif file.is_file():
            shutil.copyfile(file, into / name)


def words_of(folder: Path) -> list[Path]:
    """The text files of a model folder."""
    found = (folder / name for name in WORDS)
    return [file for one in found for file in (sorted(one.rglob("*")) if one.is_dir() else [one]) if file.is_file()]


def put_words_over(words: Path, into: Path) -> None:
    """The text files of a folder over those in `into`; what only `into` has, such as tokenizer.model, stays."""
    if (words / "tokenizer_config.json").is_file():
        for name in OF_ONE_TOKENIZER:
            if (into / name).is_dir():
                shutil.rmtree(into / name)
            else:
                (into / name).unlink(missing_ok=True)
    copy_words(words, into)


def end_with(folder: Path, end_ids: Iterable[int]) -> None:
    """Name every token that ends an answer in generation_config.json, where it names fewer.

    A model learns to end with its template's own end token; a runtime that knows only the base's would go on past it.
    """
    path = folder / "generation_config.json"
    try:
        tree = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        tree = {}
    named = tree.get("eos_token_id")
    known = {named} if isinstance(named, int) else set(named or ())
    wanted = known | set(end_ids)
    if wanted and wanted != known:
        ends = sorted(wanted)
        files.write_json(path, {**tree, "eos_token_id": ends if len(ends) > 1 else ends[0]})
