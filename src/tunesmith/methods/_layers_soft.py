"""Soft prompts: rows of the embedding that stand for no word and are learnt, looked up under ids of their own."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rows(nn.Module):
    """P rows that learn as they are: Lester et al. 2021, The Power of Scale for Parameter-Efficient Prompt Tuning."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(start.float())

    def forward(self) -> Tensor:
        """The rows (P, D)."""
        return self.weight


class Encoded(nn.Module):
    """P rows that a small network makes: Liu et al. 2021, GPT Understands, Too.

    The network's last layer begins at zero and its output, times `spread`, is added to the rows that learning starts
    from, so that learning begins where that of plain rows does.
    """

    start: Tensor
    spread: Tensor

    def __init__(self, start: Tensor, spread: float, hidden: int, lstm: bool) -> None:
        super().__init__()
        n, width = start.shape
        self.register_buffer("start", start.float())
        self.register_buffer("spread", torch.tensor(spread))
        self.embedding = nn.Parameter(torch.randn(n, width))
        self.lstm = nn.LSTM(width, hidden, num_layers=2, bidirectional=True, batch_first=True) if lstm else None
        inner = 2 * hidden if lstm else hidden
        last = nn.Linear(inner, width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(nn.Linear(inner if lstm else width, inner), nn.ReLU(), last)

    def forward(self) -> Tensor:
        """The rows (P, D), in float32."""
        with torch.autocast(self.embedding.device.type, enabled=False):
            made = self.embedding if self.lstm is None else self.lstm(self.embedding[None])[0][0]
            rows: Tensor = self.start + self.spread * self.network(made)
        return rows


class LedEmbedding(nn.Module):
    """An embedding with P further rows: the ids from `first` on are looked up in what `rows` gives."""

    def __init__(self, base: nn.Embedding, first: int, rows: nn.Module) -> None:
        super().__init__()
        self.base, self.first, self.rows = base, first, rows

    @property
    def weight(self) -> Tensor:
        """The rows of the vocabulary (V, D)."""
        return self.base.weight

    def forward(self, ids: Tensor) -> Tensor:
        """What the layers read: (B, T, D) of ids (B, T)."""
        soft = self.rows()
        index = ids - self.first
        is_soft = (index >= 0) & (index < len(soft))
        plain: Tensor = self.base(ids.masked_fill(is_soft, 0))
        return plain.index_put((is_soft,), soft[index[is_soft]].to(plain.dtype))
