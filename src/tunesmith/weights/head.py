"""The output head: the embedding itself, or a weight of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ALWAYS_TIED = frozenset({"gemma", "gemma2", "cohere", "cohere2"})
"""Model types whose head is the embedding in llama.cpp, whatever the model says."""


def is_tied(model: PreTrainedModel) -> bool:
    """Whether the head is the embedding itself."""
    head = model.get_output_embeddings()
    return head is not None and head.weight is model.get_input_embeddings().weight


def untie(model: PreTrainedModel) -> None:
    """Give the head a weight of its own, equal to the embedding's."""
    import torch

    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone())
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = False
