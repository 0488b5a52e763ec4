"""Tokens that a tokenizer gets besides its own.

Its files are edited and not saved anew by it: a tokenizer that is read and written may come back as another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tunesmith import files


def add(folder: Path, words: Mapping[str, int], *, special: bool) -> None:
    """Make tokens known to the tokenizer of a model folder, under these ids.

    A special one is a mark that answers are shown without; one that is not is part of an answer's text.

    Raises:
        ValueError: the tokenizer would give them other ids.
    """
    enter(folder, words, special=special)
    _known_as(folder, words)


def enter(folder: Path, words: Mapping[str, int], *, special: bool) -> None:
    """Write tokens into the files of a tokenizer, as `add` does, and ask nobody what comes of it."""
    edit(folder / "tokenizer.json", lambda tree: _with_tokens(tree, words, special))
    edit(folder / "tokenizer_config.json", lambda tree: _with_decoder(tree, words, special))
    if (folder / "tokenizer.model").is_file():  # llama.cpp's converter reads that, and from here what was added to it
        edit(folder / "added_tokens.json", lambda tree: {**tree, **words})


def edit(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the tree of a JSON file; that of one that is not there is empty."""
    tree = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    files.write_json(file, change(tree))


def _known_as(folder: Path, words: Mapping[str, int]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    found = list(tokenizer("".join(words), add_special_tokens=False)["input_ids"])
    if found != list(words.values()):
        told = f"{found[:4]}..., and rows {list(words.values())[:4]}... of the embedding"
        raise ValueError(f"the new tokens {list(words)[:4]} have the ids {told}")


def _token(word: str, *, special: bool) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"content": word, **plain, "special": special}


def _with_tokens(tree: dict[str, Any], words: Mapping[str, int], special: bool) -> dict[str, Any]:
    new = [{"id": one, **_token(word, special=special)} for word, one in words.items()]
    return {**tree, "added_tokens": [*(tree.get("added_tokens") or ()), *new]}


def _with_decoder(tree: dict[str, Any], words: Mapping[str, int], special: bool) -> dict[str, Any]:
    """The tokens where this file lists such."""
    decoder = tree.get("added_tokens_decoder")
    if decoder is None:
        return tree
    new = {str(one): _token(word, special=special) for word, one in words.items()}
    return {**tree, "added_tokens_decoder": {**decoder, **new}}
