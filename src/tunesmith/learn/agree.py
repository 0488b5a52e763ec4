"""Whether two models say the same: their log-probabilities, side by side."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from tunesmith.text.example import Tokens

N_ROWS, N_TOKENS = 4, 64
SAME = 1e-4  # the largest gap between tuned weights and what they came to rest in
MOVED = 1e-6  # less than this is no change at all


def probes(rows: Sequence[Tokens], n_lead: int = 0) -> list[tuple[int, ...]]:
    """The beginnings of some rows, spread over all of them: what the models are asked.

    `n_lead` tokens stand before each row and tell nothing of it.
    """
    every = max(1, len(rows) // N_ROWS)
    return [row.ids[: n_lead + N_TOKENS] for row in rows[::every][:N_ROWS]]


def logprobs(
    model: nn.Module, asked: Sequence[tuple[int, ...]], never: Collection[int] = (), skip: int = 0
) -> list[Tensor]:
    """Natural log-probabilities after each token of each probe: (T, V) each, float32; dropout is off.

    Tokens of `never` are left out of V, as they never come; the first `skip` tokens are not told of.
    """
    model.eval()
    device = next(model.parameters()).device

    left_out = frozenset(never)

    def told(ids: tuple[int, ...]) -> Tensor:
        logits = model(input_ids=torch.tensor([ids], device=device)).logits[0, skip:].float()
        kept = [one for one in range(logits.shape[-1]) if one not in left_out] if left_out else slice(None)
        chosen: Tensor = logits[:, kept].log_softmax(-1)
        return chosen

    with torch.inference_mode():
        return [told(ids) for ids in asked]


def gap(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """The largest difference between two answers: in nats, and beyond a nat as a share of the log-probability.

    Logits are rounded in proportion to their size, so a token at -40 nats is forty times less sure than one at -1.
    """
    return max(float(((a - b).abs() / b.abs().clamp(min=1)).max()) for a, b in zip(one, other, strict=True))
