"""A base with few of its layers and made-up weights: as fast as those layers of the real one, and soon made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tunesmith import files
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.save import copy_words

if TYPE_CHECKING:
    from transformers import PreTrainedModel

BLOCK = 1 << 20  # numbers that are drawn; more of them would not make a product slower or faster
SPREAD = 0.02
DRAWS = frozenset({Tensor.normal_, Tensor.uniform_})


def sliced(base: BaseFacts, layers: Sequence[int], into: Path) -> BaseFacts:
    """Config and tokenizer, in the folder `into`, of a base that has only these of its layers, by number from 0."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base.folder, trust_remote_code=False)
    tree = config.to_dict()
    inner = config.get_text_config()
    part: dict[str, Any] = tree if inner is config else tree["text_config"]
    for name, value in part.items():
        if isinstance(value, list) and len(value) == base.n_layers:  # a word for each layer
            part[name] = [value[layer] for layer in layers]
    part[inner.attribute_map.get("num_hidden_layers", "num_hidden_layers")] = len(layers)
    into.mkdir(parents=True, exist_ok=True)
    copy_words(base.folder, into)
    files.write_text(into / "config.json", json.dumps(tree))
    return BaseFacts.read(into, base.name)


def made_up(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The model of a folder's config with made-up weights of the usual spread, in evaluation mode."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with _QuickNumbers():
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False, dtype=dtype)
    return model.eval()  # type: ignore[no-any-return]


class _QuickNumbers(TorchFunctionMode):
    """Within this block random numbers are drawn once and repeated: drawing each would take longer than the steps."""

    def __init__(self) -> None:
        super().__init__()
        self._block = torch.randn(BLOCK) * SPREAD

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in DRAWS or not args[0].is_contiguous():
            return func(*args, **(kwargs or {}))
        flat = args[0].detach().view(-1)
        for first in range(0, len(flat), BLOCK):
            flat[first : first + BLOCK] = self._block[: len(flat) - first]
        return args[0]
