"""Tokens that a tokenizer gets besides its own: in its files, which are edited and not saved anew by it, and at hand.

A tokenizer that is read and written may come back as another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith import files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def add(folder: Path, words: Mapping[str, int], *, special: bool) -> None:
    """Make tokens known to the tokenizer of a model folder, under these ids.

    A special one is a mark that answers are shown without; one that is not is part of an answer's text.

    Raises:
        ValueError: the tokenizer would give them other ids.
    """
    edit(folder / "tokenizer.json", lambda tree: _with_tokens(tree, words, special))
    edit(folder / "tokenizer_config.json", lambda tree: _with_decoder(tree, words, special))
    from transformers import AutoTokenizer

    known_as(AutoTokenizer.from_pretrained(folder, trust_remote_code=False), words)


def grown(tokenizer: PreTrainedTokenizerBase, words: Mapping[str, int]) -> PreTrainedTokenizerBase:
    """The tokenizer as it is once `add` has made tokens known that are not special; the one that is given stays.

    Raises:
        ValueError: the tokenizer would give them other ids.
    """
    from copy import deepcopy

    from tokenizers import AddedToken

    made = deepcopy(tokenizer)
    made.add_tokens([AddedToken(**_token(word, special=False)) for word in words])
    known_as(made, words)
    return made


def edit(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the tree of a JSON file; that of one that is not there is empty."""
    tree = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    files.write_json(file, change(tree))


def known_as(tokenizer: PreTrainedTokenizerBase, words: Mapping[str, int]) -> None:
    """Raises ValueError where a text of the words has other ids than theirs."""
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
