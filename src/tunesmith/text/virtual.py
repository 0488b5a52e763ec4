"""Tokens that stand for no text: a tuned model reads them before everything, and never writes them.

A soft prompt comes to rest as rows of the embedding, each with a token of its own. The chat template puts those first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith import files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SUPPRESS = "suppress_tokens"  # of generation_config.json: ids that are never written


def names(n: int) -> tuple[str, ...]:
    """The first `n` virtual tokens as they are written."""
    return tuple(f"<|vt_{index}|>" for index in range(n))


def tokens_of(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """The virtual tokens that a tokenizer knows, in their order."""
    known = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    return tuple(takewhile(known.__contains__, names(len(known))))


def lead_with(folder: Path, ids: Sequence[int]) -> None:
    """Make the tokens of `ids` known to the tokenizer of a model folder, put them first, and keep them out of answers.

    The files are edited and not saved anew by a tokenizer: one that is read and written may come back as another.

    Raises:
        ValueError: the tokenizer would give them other ids.
    """
    words = names(len(ids))
    _edit(folder / "tokenizer.json", lambda tree: _with_tokens(tree, words, ids))
    _edit(folder / "tokenizer_config.json", lambda tree: _with_config(tree, words, ids))
    _edit(folder / "generation_config.json", lambda tree: _suppressing(tree, ids))
    for file in (folder / "chat_template.jinja", *sorted(folder.glob("additional_chat_templates/*.jinja"))):
        if file.is_file():
            files.write_text(file, "".join(words) + file.read_text(encoding="utf-8"))
    _known_as(folder, words, ids)


def _edit(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    tree = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    files.write_json(file, change(tree))


def _token(word: str) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"content": word, **plain, "special": True}


def _with_tokens(tree: dict[str, Any], words: Sequence[str], ids: Sequence[int]) -> dict[str, Any]:
    new = [{"id": one, **_token(word)} for one, word in zip(ids, words, strict=True)]
    return {**tree, "added_tokens": [*(tree.get("added_tokens") or ()), *new]}


def _with_config(tree: dict[str, Any], words: Sequence[str], ids: Sequence[int]) -> dict[str, Any]:
    """The tokens where this file lists such, and the templates that stand here."""
    decoder = tree.get("added_tokens_decoder")
    if decoder is not None:
        new = {str(one): _token(word) for one, word in zip(ids, words, strict=True)}
        tree = {**tree, "added_tokens_decoder": {**decoder, **new}}
    template = tree.get("chat_template")
    first = "".join(words)
    if isinstance(template, str):
        tree = {**tree, "chat_template": first + template}
    elif isinstance(template, list):
        tree = {**tree, "chat_template": [{**one, "template": first + one["template"]} for one in template]}
    return tree


def _suppressing(tree: dict[str, Any], ids: Sequence[int]) -> dict[str, Any]:
    return {**tree, SUPPRESS: sorted({*(tree.get(SUPPRESS) or ()), *ids})}


def _known_as(folder: Path, words: Sequence[str], ids: Sequence[int]) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    found = tokenizer("".join(words), add_special_tokens=False)["input_ids"]
    if list(found) != list(ids):
        raise ValueError(
            f"the virtual tokens have the ids {found[:4]}..., and rows {list(ids)[:4]}... of the embedding"
        )
