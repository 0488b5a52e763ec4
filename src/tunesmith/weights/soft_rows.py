"""The rows of a soft prompt, put into a model's vocabulary: what was read before all tokens is then tokens itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def put(model: PreTrainedModel, rows: Tensor, first: int) -> None:
    """Make `rows` (P, D), as the layers read them, the embedding of the ids from `first` on.

    The embedding grows where it has no rows to spare; a head of its own gets zeros there, since those tokens are
    never written.
    """
    plain: Any = model
    embedding = plain.get_input_embeddings()
    scale, n_known, end = scale_of(embedding), len(embedding.weight), first + len(rows)
    tied = plain.get_output_embeddings().weight is embedding.weight
    if end > n_known:
        plain.resize_token_embeddings(end, mean_resizing=False)
    with torch.no_grad():
        if end > n_known and not tied:
            plain.get_output_embeddings().weight[n_known:] = 0.0
        plain.get_input_embeddings().weight[first:end] = rows / scale


def scale_of(embedding: nn.Embedding) -> float:
    """What an embedding multiplies its rows by before the layers read them: 1 for most, the root of D for Gemma."""
    weight = embedding.weight
    with torch.no_grad():
        longest = weight[:256].float().norm(dim=1).argmax()  # the row of a padding token is all zeros
        row, read = weight[longest].float(), embedding(longest).float()
    return float((read @ row) / (row @ row))


def spread_of(embedding: nn.Embedding) -> float:
    """The root of the mean square of what the layers read of the vocabulary."""
    return scale_of(embedding) * float(embedding.weight.float().square().mean().sqrt())
