"""Weights in blocks of 4 or 8 bits: each block of a row has a scale of its own, chosen so that the error is least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SHRINK = (
    1.0,
    0.97,
    0.94,
    0.91,
    0.88,
    0.85,
    0.82,
    0.78,
    0.74,
    0.7,
)  # of a block's range; narrower rounds finer, cuts tails
ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Layout:
    """How a matrix is stored: bits a weight, weights a block, and whether zero stands in the middle of the levels."""

    bits: int
    block: int
    symmetric: bool


@dataclass(frozen=True)
class Blocks:
    """A matrix (N, K) as ONNX Runtime's MatMulNBits reads it.

    `levels` (N, K / block, block * bits / 8) bytes, low half first; `scales` (N, K / block); `zeros`, the level that
    stands for 0, packed like the levels, None where it is the middle one. K is filled up to whole blocks.
    """

    layout: Layout
    shape: tuple[int, int]
    levels: torch.Tensor
    scales: torch.Tensor
    zeros: torch.Tensor | None

    def dequantised(self) -> torch.Tensor:
        """The weights (N, K) that the levels stand for."""
        levels = _unpacked(self.levels, self.layout.bits).float()
        middle = float(2 ** (self.layout.bits - 1))
        n_blocks = self.scales.shape[1]
        zeros = middle if self.zeros is None else _unpacked(self.zeros, self.layout.bits)[:, :n_blocks, None].float()
        return (self.scales[..., None] * (levels - zeros)).flatten(1)[:, : self.shape[1]]


def quantise(weight: torch.Tensor, layout: Layout, importance: torch.Tensor | None = None) -> Blocks:
    """A matrix (N, K) in blocks, with the least squared error; each column counts by its `importance` (K,)."""
    import torch

    n_columns = weight.shape[1]
    fill = -n_columns % layout.block
    counts = torch.ones(n_columns) if importance is None else importance.float().clamp(min=1e-12) / importance.mean()
    counts = torch.nn.functional.pad(counts, (0, fill)).reshape(1, -1, layout.block)
    levels, scales, zeros = [], [], []
    for rows in weight.detach().float().split(ROWS_AT_ONCE):
        blocks = torch.nn.functional.pad(rows, (0, fill)).reshape(len(rows), -1, layout.block)
        level, scale, zero = _best(blocks, counts, layout)
        levels.append(_packed(level, layout.bits))
        scales.append(scale)
        zeros.append(_packed(zero, layout.bits))
    shape = (weight.shape[0], n_columns)
    return Blocks(layout, shape, torch.cat(levels), torch.cat(scales), None if layout.symmetric else torch.cat(zeros))


def _best(
    blocks: torch.Tensor, counts: torch.Tensor, layout: Layout
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Levels (N, n, block), scales and zeros (N, n): of several ranges of each block, the one that errs least."""
    import torch

    top = 2**layout.bits - 1
    least = torch.full(blocks.shape[:2], float("inf"))
    best_scale, best_zero = torch.zeros_like(least), torch.zeros_like(least)
    for shrink in SHRINK if layout.bits < 8 else SHRINK[:3]:
        scale, zero = _range(blocks, shrink, layout)
        level = (blocks / scale[..., None] + zero[..., None]).round_().clamp_(0, top)
        offset = level - zero[..., None]
        # With the levels fixed, the scale of least error has a closed form.
        over = (counts * offset * offset).sum(-1)
        scale = torch.where(over > 0, (counts * offset * blocks).sum(-1) / over.clamp(min=1e-30), scale)
        error = (counts * (blocks - scale[..., None] * offset) ** 2).sum(-1)
        better = error < least
        least = torch.where(better, error, least)
        best_scale, best_zero = torch.where(better, scale, best_scale), torch.where(better, zero, best_zero)
    safe = torch.where(best_scale == 0, torch.ones_like(best_scale), best_scale)
    level = (blocks / safe[..., None] + best_zero[..., None]).round_().clamp_(0, top)
    return level.to(torch.uint8), best_scale, best_zero.to(torch.uint8)


def _range(blocks: torch.Tensor, shrink: float, layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """The step between two levels, and the level that stands for zero."""
    import torch

    top = 2**layout.bits - 1
    if layout.symmetric:
        middle = 2 ** (layout.bits - 1)
        far = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))[..., 0]
        scale = -far * shrink / middle  # signed, so that the largest weight has the one level more
        return torch.where(scale == 0, torch.ones_like(scale), scale), torch.full_like(scale, float(middle))
    low, high = blocks.amin(-1).clamp(max=0) * shrink, blocks.amax(-1).clamp(min=0) * shrink
    scale = (high - low) / top
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return scale, (-low / scale).round().clamp(0, top)


def _packed(levels: torch.Tensor, bits: int) -> torch.Tensor:
    import torch

    if bits == 8:
        return levels
    if levels.shape[-1] % 2:
        levels = torch.nn.functional.pad(levels, (0, 1))
    return levels[..., 0::2] | (levels[..., 1::2] << 4)


def _unpacked(levels: torch.Tensor, bits: int) -> torch.Tensor:
    import torch

    return levels if bits == 8 else torch.stack((levels & 15, levels >> 4), -1).flatten(-2)
