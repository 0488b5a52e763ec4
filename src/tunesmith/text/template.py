"""Words of a chat template: a tokenizer, its template and its end tokens, asked in one way everywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.text.example import Ask, Message, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Text:
    """How a model's words become numbers and back."""

    tokenizer: PreTrainedTokenizerBase
    end_ids: frozenset[int]
    """Tokens that end an answer: the tokenizer's own and those of generation_config.json."""

    @classmethod
    def read(cls, folder: Path) -> Text:
        """The text of a model folder; no weight is read."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder)
        return cls(tokenizer, frozenset(_end_ids(folder, tokenizer)))

    @property
    def has_template(self) -> bool:
        """Whether it can render a conversation."""
        return bool(self.tokenizer.chat_template)

    def render(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), *, prompt: bool = False) -> str:
        """The conversation as the template writes it; with `prompt`, the beginning of the answer is asked for."""
        return str(
            self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tools=[dict(tool) for tool in tools] or None,
                add_generation_prompt=prompt,
                tokenize=False,
            )
        )

    def encode(self, text: str) -> list[int]:
        """The ids of a rendered text: marks such as `<|im_end|>` are read as their token, none is added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def prompt(self, ask: Ask, tools: Sequence[Mapping[str, Any]] = ()) -> Prompt:
        """What a model is given before it answers. A raw text gets the tokens that its tokenizer adds (such as BOS)."""
        if isinstance(ask, str):
            return Prompt(ask, tuple(self.tokenizer(ask)["input_ids"]))
        text = self.render(ask, tools, prompt=True)
        return Prompt(text, tuple(self.encode(text)))

    def decode(self, ids: Sequence[int]) -> str:
        """The words of an answer; special tokens are left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    @cached_property
    def end_tokens(self) -> tuple[str, ...]:
        """The end tokens as they are written, in the order of their ids."""
        return tuple(str(self.tokenizer.convert_ids_to_tokens(one)) for one in sorted(self.end_ids))


def _end_ids(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ids = [tokenizer.eos_token_id] if isinstance(tokenizer.eos_token_id, int) else []
    try:
        named = json.loads((folder / "generation_config.json").read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError):
        named = None
    ids += [named] if isinstance(named, int) else named or []
    return ids
