"""Words of a chat template: a tokenizer, its template and its end tokens, asked in one way everywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.text.example import Ask, Message, Prompt
from tunesmith.text.slices import slices
from tunesmith.text.virtual import tokens_of as virtual_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOW = re.compile(r"""strftime_now\(\s*(["'])(.+?)\1\s*\)""")


@dataclass(frozen=True)
class Text:
    """How a model's words become numbers and back."""

    tokenizer: PreTrainedTokenizerBase
    end_ids: frozenset[int]
    """Tokens that end an answer: the tokenizer's own, those of generation_config.json, and the template's."""
    day: date | None = None
    """What a template that writes the date takes for today; None: today, as every runtime does."""
    never: frozenset[int] = frozenset()
    """Tokens that are never written: what stands for no text, such as those of a soft prompt."""

    @classmethod
    def read(cls, folder: Path, day: date | None = None) -> Text:
        """The text of a model folder; no weight is read."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        own = cls(tokenizer, frozenset(_end_ids(folder, tokenizer)))
        never = frozenset(_generation_config(folder).get("suppress_tokens") or ())
        return cls(tokenizer, own.end_ids | own.turn_end_ids(), day, never)

    @property
    def has_template(self) -> bool:
        """Whether it can render a conversation."""
        return bool(self.tokenizer.chat_template)

    def render(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), *, prompt: bool = False
    ) -> str:
        """The conversation as the template writes it; with `prompt`, the beginning of the answer is asked for.

        Most templates take the arguments of a call for what they mean; some only as text.
        """
        try:
            return self._render(messages, tools, prompt)
        except TypeError:
            if not any(message.get("tool_calls") for message in messages):
                raise
        return self._render([_with_text_arguments(message) for message in messages], tools, prompt)

    def _render(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], prompt: bool) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tools=[dict(tool) for tool in tools] or None,
                chat_template=self._dated(bool(tools)),
                add_generation_prompt=prompt,
                tokenize=False,
            )
        )

    def _dated(self, with_tools: bool) -> str | None:
        """The template with the day written in; None where the tokenizer's own will do."""
        if self.day is None or not self.has_template:
            return None
        day = self.day
        template = self.tokenizer.get_chat_template(tools=[{}] if with_tools else None)
        return NOW.sub(lambda call: json.dumps(day.strftime(call[2])), template)

    def encode(self, text: str) -> list[int]:
        """The ids of a rendered text: marks such as `<|im_end|>` are read as their token, none is added."""
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    @cached_property
    def lead(self) -> str:
        """What stands before every raw text: the tokens of a soft prompt, with the BOS that a tokenizer would add."""
        virtual = virtual_tokens(self.tokenizer)
        if not virtual:
            return ""
        begins_with_bos = self.tokenizer("a")["input_ids"][:1] == [self.tokenizer.bos_token_id]
        return "".join(virtual) + (str(self.tokenizer.bos_token) if begins_with_bos else "")

    def ids(self, rendered: str, raw_text: bool) -> list[int]:
        """The ids of a rendered prompt, or of a raw text as `prompt` gives it."""
        return self.raw(rendered) if raw_text and not self.lead else self.encode(rendered)

    def raw(self, text: str) -> list[int]:
        """The ids of a raw text with what its tokenizer adds (such as BOS). A long one is encoded in slices."""
        if self.lead:
            return self.encode(self.lead + text)
        first, *others = slices(text, self.encode)
        ids = list(self.tokenizer(first, verbose=False)["input_ids"])
        if not others:
            return ids
        n_after = len(ids) - _end_of(self.encode(first), ids)
        after = ids[len(ids) - n_after :]
        del ids[len(ids) - n_after :]
        for one in others:
            ids += self.encode(one)
        same: dict[int, int] = {}
        return [same.setdefault(one, one) for one in (*ids, *after)]  # one object a token of the vocabulary

    @property
    def end_id(self) -> int | None:
        """The token that is written where an answer or a text ends and nothing else ends it."""
        end = self.tokenizer.eos_token_id
        return min(self.end_ids, default=None) if end is None else int(end)

    def prompt(self, ask: Ask, tools: Sequence[Mapping[str, Any]] = ()) -> Prompt:
        """What a model is given before it answers. A raw text gets the tokens that its tokenizer adds (such as BOS)."""
        if isinstance(ask, str):
            return Prompt(self.lead + ask, tuple(self.raw(ask)))
        text = self.render(ask, tools, prompt=True)
        return Prompt(text, tuple(self.encode(text)))

    def decode(self, ids: Sequence[int]) -> str:
        """The words of an answer; special tokens are left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def spell(self, ids: Sequence[int]) -> str:
        """All that the ids say, special tokens included."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def turn_end_ids(self) -> frozenset[int]:
        """The special token with which the template ends an answer; empty when it writes none.

        A base whose template ends turns with `<|im_end|>` may name only `<|endoftext|>` as its end.
        """
        if not self.has_template:
            return frozenset()
        answer = "answer"
        try:
            written = self.render([{"role": "user", "content": "ask"}, {"role": "assistant", "content": answer}])
        except Exception:  # noqa: BLE001  # a template is a program of someone else; what it refuses is said later
            return frozenset()
        special = set(self.tokenizer.all_special_ids)
        special |= {one for one, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        after = self.encode(written.rpartition(answer)[2])
        return frozenset([one for one in after if one in special][:1])

    @cached_property
    def end_tokens(self) -> tuple[str, ...]:
        """The end tokens as they are written, in the order of their ids."""
        return tuple(str(self.tokenizer.convert_ids_to_tokens(one)) for one in sorted(self.end_ids))


def _with_text_arguments(message: Message) -> Message:
    def written(function: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}

    calls = [{**call, "function": written(call["function"])} for call in message.get("tool_calls", ())]
    return {**message, "tool_calls": calls} if calls else message


def _end_of(inner: list[int], ids: list[int]) -> int:
    """Where `inner`, with which `ids` may begin after what a tokenizer adds, ends in it."""
    starts = range(len(ids) - len(inner) + 1)
    return next((at + len(inner) for at in starts if ids[at : at + len(inner)] == inner), len(ids))


def _end_ids(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    ids = [tokenizer.eos_token_id] if isinstance(tokenizer.eos_token_id, int) else []
    named = _generation_config(folder).get("eos_token_id")
    ids += [named] if isinstance(named, int) else named or []
    return ids


def _generation_config(folder: Path) -> Mapping[str, Any]:
    try:
        return dict(json.loads((folder / "generation_config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
