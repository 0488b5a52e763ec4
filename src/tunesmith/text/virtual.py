"""Tokens that stand for no text: a tuned model reads them before everything, and never writes them.

A soft prompt comes to rest as rows of the embedding, each with a token of its own. The chat template puts those first.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith import files
from tunesmith.text import vocabulary

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

    Raises:
        ValueError: the tokenizer would give them other ids.
    """
    words = names(len(ids))
    first = "".join(words)
    vocabulary.add(folder, dict(zip(words, ids, strict=True)), special=True)
    vocabulary.edit(folder / "tokenizer_config.json", lambda tree: _led(tree, first))
    vocabulary.edit(folder / "generation_config.json", lambda tree: _suppressing(tree, ids))
    for file in (folder / "chat_template.jinja", *sorted(folder.glob("additional_chat_templates/*.jinja"))):
        if file.is_file():
            files.write_text(file, first + file.read_text(encoding="utf-8"))


def _led(tree: dict[str, Any], first: str) -> dict[str, Any]:
    """The templates that stand in this file, with something before them."""
    template = tree.get("chat_template")
    if isinstance(template, str):
        tree = {**tree, "chat_template": first + template}
    elif isinstance(template, list):
        tree = {**tree, "chat_template": [{**one, "template": first + one["template"]} for one in template]}
    return tree


def _suppressing(tree: dict[str, Any], ids: Sequence[int]) -> dict[str, Any]:
    return {**tree, SUPPRESS: sorted({*(tree.get(SUPPRESS) or ()), *ids})}
