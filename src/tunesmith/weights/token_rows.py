"""Single rows of the embedding, and of the output head, that learn while all others stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn


class TokenRows(nn.Module):
    """Rows (N, D) in float32, and the N ids of the tokens that they are read and written by."""

    ids: Tensor

    def __init__(self, ids: Sequence[int], start: Tensor) -> None:
        super().__init__()
        self.register_buffer("ids", torch.tensor(list(ids), device=start.device), persistent=False)
        self.weight = nn.Parameter(start.detach().float().clone())


class EmbeddingWithRows(nn.Module):
    """An embedding that looks some tokens up among rows of their own, times what it multiplies its own rows by."""

    def __init__(self, base: nn.Embedding, rows: TokenRows, scale: float = 1.0) -> None:
        super().__init__()
        self.base, self.rows, self.scale = base, rows, scale

    @property
    def weight(self) -> Tensor:
        """The embedding's own rows (V, D)."""
        return self.base.weight

    def forward(self, ids: Tensor) -> Tensor:
        """What the layers read: (B, T, D) of ids (B, T)."""
        plain: Tensor = self.base(ids)
        same = ids[..., None] == self.rows.ids
        here = same.any(-1)
        read = self.rows.weight[same.int().argmax(-1)[here]] * self.scale
        return plain.index_put((here,), read.to(plain.dtype))


class HeadWithRows(nn.Module):
    """An output head that gives some tokens their logits from rows of their own."""

    def __init__(self, base: nn.Linear, rows: TokenRows) -> None:
        super().__init__()
        self.base, self.rows = base, rows

    @property
    def weight(self) -> Tensor:
        """The head's own rows (V, D)."""
        return self.base.weight

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of hidden states (..., D)."""
        plain: Tensor = self.base(hidden)
        bias = None if self.base.bias is None else self.base.bias[self.rows.ids]
        own = nn.functional.linear(hidden, self.rows.weight.to(hidden.dtype), bias)
        return plain.index_copy(-1, self.rows.ids, own.to(plain.dtype))


def of(model: nn.Module) -> Mapping[str, TokenRows]:
    """The rows of a model, each once, by the name of the first layer that reads them."""
    found = {id(layer.rows): (name, layer.rows) for name, layer in reversed(list(_layers(model)))}
    return dict(reversed(found.values()))


def rest(model: nn.Module) -> None:
    """Write the rows into embedding and head, and put those back into their places."""
    with torch.no_grad():
        for name, layer in list(_layers(model)):
            layer.base.weight[layer.rows.ids] = layer.rows.weight.to(layer.base.weight.dtype)
            model.set_submodule(name, layer.base)


def _layers(model: nn.Module) -> Iterator[tuple[str, EmbeddingWithRows | HeadWithRows]]:
    for name, module in model.named_modules():
        if isinstance(module, EmbeddingWithRows | HeadWithRows):
            yield name, module
