"""Weights in blocks of 4 or 8 bits: each block of a row has a scale of its own, chosen so that the error is least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

SHRINK = (1.0, 0.97, 0.94, 0.91, 0.88, 0.85, 0.82, 0.78, 0.74, 0.7)
"""Of a block's range; a narrower one rounds finer and cuts tails."""
BLOCKS_AT_ONCE = 8192  # a megabyte of float32 in blocks of 32: stays in a core's cache through all the passes


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

    @classmethod
    def of(
        cls, layout: Layout, n_columns: int, levels: torch.Tensor, scales: torch.Tensor, zeros: torch.Tensor
    ) -> Blocks:
        """Of levels (N, K), filled up, with the scales and the zeros (N, K / block) of their blocks."""
        import torch

        n_rows, n_blocks = scales.shape
        packed = _packed(levels.reshape(n_rows, n_blocks, layout.block), layout.bits)
        packed_zeros = None if layout.symmetric else _packed(zeros.to(torch.uint8), layout.bits)
        return cls(layout, (n_rows, n_columns), packed, scales.contiguous(), packed_zeros)

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
    counts = torch.nn.functional.pad(counts, (0, fill)).reshape(-1, layout.block)
    n_blocks = len(counts)
    n_rows = min(len(weight), max(1, BLOCKS_AT_ONCE // n_blocks))
    counts = counts.repeat(n_rows, 1).t().contiguous()
    levels, scales, zeros = [], [], []
    for rows in weight.detach().split(n_rows):
        blocks = torch.nn.functional.pad(rows.float(), (0, fill)).reshape(-1, layout.block).t().contiguous()
        scale, zero = grid(blocks, counts[:, : blocks.shape[1]], layout, SHRINK if layout.bits < 8 else SHRINK[:3])
        level = torch.div(blocks, not_zero(scale)).add_(zero).round_().clamp_(0, 2**layout.bits - 1)
        levels.append(level.t().to(torch.uint8).unflatten(0, (-1, n_blocks)).flatten(1))
        scales.append(scale.unflatten(0, (-1, n_blocks)))
        zeros.append(zero.unflatten(0, (-1, n_blocks)))
    return Blocks.of(layout, n_columns, torch.cat(levels), torch.cat(scales), torch.cat(zeros))


def not_zero(scale: torch.Tensor) -> torch.Tensor:
    """The scales, one where a block is nothing but zeros."""
    import torch

    return torch.where(scale == 0, torch.ones_like(scale), scale)


def grid(
    blocks: torch.Tensor, counts: torch.Tensor, layout: Layout, shrinks: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scales and zeros (n,) of blocks (block, n): of their range shrunk by each of `shrinks`, what errs least.

    Blocks stand as columns, so that sums within one run over all of them at once. With levels o about their zero fixed,
    the scale of least error is s = (c o x) / (c o o), summed over a block, and leaves c x x - s (c o x).
    """
    import torch

    top = 2**layout.bits - 1
    counted = counts * blocks
    low, high = blocks.aminmax(dim=0)
    most = torch.full_like(low, -1.0)
    best_scale, best_zero = torch.zeros_like(low), torch.zeros_like(low)
    offset, product = torch.empty_like(blocks), torch.empty_like(blocks)
    for shrink in shrinks:
        scale, zero = _range(low * shrink, high * shrink, layout)
        torch.div(blocks, scale, out=offset).round_().clamp_(-zero, top - zero)
        with_weights = torch.mul(counted, offset, out=product).sum(0)
        with_itself = torch.mul(offset.square_(), counts, out=product).sum(0)
        fitted = with_weights / with_itself.clamp(min=1e-30)
        explained = fitted * with_weights
        better = explained > most
        most = torch.where(better, explained, most)
        best_scale = torch.where(better, torch.where(with_itself > 0, fitted, scale), best_scale)
        best_zero = torch.where(better, zero, best_zero)
    return best_scale, best_zero


def _range(low: torch.Tensor, high: torch.Tensor, layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """The step between two levels, and the level that stands for zero, where all between `low` and `high` has one."""
    import torch

    top = 2**layout.bits - 1
    if layout.symmetric:
        middle = 2 ** (layout.bits - 1)
        scale = torch.where(high > -low, high, low) / -middle  # signed: the largest weight has the one level more
        return torch.where(scale == 0, torch.ones_like(scale), scale), torch.full_like(scale, float(middle))
    low, high = low.clamp(max=0), high.clamp(min=0)
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
