"""What can be known of a model from its small files: config, tokenizer, chat template. No weight is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tunesmith.errors import Fault, SourceError


@dataclass(frozen=True)
class BaseFacts:
    """A model as its folder of small files tells it.

    `folder` holds config.json and the tokenizer's files; the weights may be elsewhere, or nowhere yet.
    """

    name: str
    folder: Path
    config: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, folder: Path, name: str = "") -> BaseFacts:
        """The facts of a folder.

        Raises:
            SourceError: `source/no-config`, when config.json is missing or unreadable.
        """
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SourceError(
                Fault(
                    "source/no-config",
                    f"config.json cannot be read: {error}",
                    fix="give a Hugging Face model folder",
                    file=str(folder),
                )
            ) from None
        return cls(name or str(folder), folder, config)

    @property
    def model_type(self) -> str:
        """The config's `model_type`, such as `llama`."""
        return str(self.config.get("model_type", ""))

    @property
    def architecture(self) -> str:
        """The class that generates text, such as `LlamaForCausalLM`."""
        return str((self.config.get("architectures") or [""])[0])

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The part of the config that describes the language model."""
        inner = self.config.get("text_config")
        return inner if isinstance(inner, Mapping) else self.config

    @cached_property
    def _told(self) -> Any:
        """The language model's config as transformers reads it: defaults filled in, old names led to the new ones."""
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self.folder, trust_remote_code=False).get_text_config()

    @property
    def additions(self) -> str:
        """The kind of what the model has beside its own weights (`weights/additions.py`); empty for a plain model."""
        from tunesmith.weights import additions

        return str((additions.read(self.folder) or {}).get("kind", ""))

    @property
    def context(self) -> int:
        """Tokens the model can attend to."""
        return int(getattr(self._told, "max_position_embeddings", None) or 2048)

    @property
    def window(self) -> int | None:
        """Tokens that the narrowest layer attends to; None where all layers see everything before."""
        return narrowest_window(self._told)

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding, V."""
        return int(self._told.vocab_size)

    @cached_property
    def next_token(self) -> int | None:
        """The id that the tokenizer gives to a token that is added to it; None where there is no tokenizer.json."""
        try:
            tree = json.loads((self.folder / "tokenizer.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        added = [int(token["id"]) for token in tree.get("added_tokens") or ()]
        known = (*added, *self.token_ids.values())  # some have tokens in their tokenizer_config.json alone
        return max([len((tree.get("model") or {}).get("vocab") or ()), *(one + 1 for one in known)])

    @cached_property
    def token_ids(self) -> Mapping[str, int]:
        """The id of every token by how the tokenizer writes it; empty where there is none that can be read."""
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        except (OSError, ValueError, KeyError, ImportError):
            return {}
        return dict(tokenizer.get_vocab())

    @property
    def hidden_size(self) -> int:
        """Width D."""
        return int(self._told.hidden_size)

    @property
    def n_layers(self) -> int:
        """Decoder layers L."""
        return int(self._told.num_hidden_layers)

    @property
    def n_heads(self) -> int:
        """Attention heads H."""
        return int(getattr(self._told, "num_attention_heads", None) or 1)

    @property
    def head_size(self) -> int:
        """Width of an attention head."""
        return int(getattr(self._told, "head_dim", None) or self.hidden_size // self.n_heads)

    @property
    def inner_size(self) -> int:
        """Width inside the MLP."""
        return int(getattr(self._told, "intermediate_size", None) or 4 * self.hidden_size)

    @property
    def tied(self) -> bool:
        """Whether the output head is the embedding itself."""
        return bool(self._told.tie_word_embeddings)

    @cached_property
    def linear_shapes(self) -> Mapping[str, tuple[int, int]]:
        """(inputs, outputs) of each linear layer by its name in the model, the head included; from an empty model."""
        from torch import nn

        from tunesmith.weights.load import empty

        return {
            name: (module.in_features, module.out_features)
            for name, module in empty(self.folder).named_modules()
            if isinstance(module, nn.Linear)
        }

    @cached_property
    def embedding_shapes(self) -> Mapping[str, tuple[int, int]]:
        """(rows, width) of each embedding by its name in the model; from an empty model."""
        from torch import nn

        from tunesmith.weights.load import empty

        return {
            name: (module.num_embeddings, module.embedding_dim)
            for name, module in empty(self.folder).named_modules()
            if isinstance(module, nn.Embedding)
        }

    @cached_property
    def ends(self) -> tuple[str, str]:
        """The names of the embedding of the tokens and of the output head in the model; empty where there is none."""
        from tunesmith.weights.load import empty

        model = empty(self.folder)
        names = {id(module): name for name, module in model.named_modules()}
        return names.get(id(model.get_input_embeddings()), ""), names.get(id(model.get_output_embeddings()), "")

    @cached_property
    def n_parameters(self) -> int:
        """Weights of the model, tied ones counted once."""
        from tunesmith.weights.load import empty

        return sum(weight.numel() for weight in empty(self.folder).parameters())

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template; None for a model that has none."""
        file = self.folder / "chat_template.jinja"
        if file.is_file():
            return file.read_text(encoding="utf-8")
        try:
            tree = json.loads((self.folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        template = tree.get("chat_template")
        if isinstance(template, list):  # the older form: several, by name
            template = {one["name"]: one["template"] for one in template}.get("default")
        return template if isinstance(template, str) else None


def narrowest_window(config: Any) -> int | None:
    """Tokens that a layer attends to at least, by the language model's config; None where all see everything before."""
    kinds = getattr(config, "layer_types", None)
    slides = kinds is None or "sliding_attention" in kinds
    return getattr(config, "sliding_window", None) if slides else None
