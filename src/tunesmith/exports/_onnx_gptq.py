"""GPTQ: the columns of a matrix are rounded in turn, and those to come make up for the error of those before.

Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers". With what a
matrix is given (X, T rows) and H = X'X, the error of column i is spread over the columns behind it by row i of U, where
H's inverse is U'U and U is upper triangular: what is left of X(W - Q)' is then the least.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from tunesmith.exports._onnx_blocks import Blocks, Layout, grid, not_zero

if TYPE_CHECKING:
    import torch

DAMPING = 0.1
"""Of H's mean diagonal, added to it: the model will be given more than the few hundred tokens it was watched with."""
SHRINKS = (0.95,)  # of a range; more of them gave no better answers, since later columns make up for the rest
WIDEST = 1024
"""Columns among which errors are spread: U of all of a wide matrix would take longer than all the rest."""


@dataclass(frozen=True, eq=False)
class Given:
    """What a matrix (N, K) is given while the model is watched: `parts`, each (T, K)."""

    parts: Sequence[torch.Tensor]

    @cached_property
    def rows(self) -> torch.Tensor:
        """All of it (T, K), in float32."""
        import torch

        return torch.cat([one.float() for one in self.parts])

    @cached_property
    def importance(self) -> torch.Tensor:
        """How much each column counts (K,): the mean square of what it is given."""
        return self.rows.square().mean(0)


def gptq(weights: Sequence[torch.Tensor], layout: Layout, given: Given) -> list[Blocks]:
    """Matrices (N, K) that are given the same, in blocks."""
    import torch

    n_columns = weights[0].shape[1]
    fill = -n_columns % layout.block  # columns of nothing, given nothing
    columns = torch.nn.functional.pad(torch.cat([one.detach().float() for one in weights]), (0, fill)).T.contiguous()
    rows = torch.nn.functional.pad(given.rows, (0, fill))
    levels = torch.empty_like(columns, dtype=torch.uint8)
    scales, zeros = [], []
    for part in _parts(len(columns), layout.block):
        for scale, zero in _in_turn(columns[part], rows[:, part], levels[part], layout):
            scales.append(scale)
            zeros.append(zero)
    sizes = [len(one) for one in weights]
    made = (levels.T, torch.stack(scales, -1), torch.stack(zeros, -1))
    return [Blocks.of(layout, n_columns, *one) for one in zip(*(each.split(sizes) for each in made), strict=True)]


def _parts(n_columns: int, block: int) -> list[slice]:
    """Parts of whole blocks, about as wide as each other and none wider than `WIDEST`."""
    n_blocks, n_parts = n_columns // block, -(-n_columns // WIDEST)
    ends = [block * (n_blocks * at // n_parts) for at in range(n_parts + 1)]
    return [slice(begin, end) for begin, end in pairwise(ends)]


def _in_turn(
    columns: torch.Tensor, rows: torch.Tensor, levels: torch.Tensor, layout: Layout
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Scale and zero (N,) of each block of the columns (K, N), which change; their `levels` (K, N) are filled."""
    counts = rows.square().mean(0)[:, None].clamp(min=1e-12)
    spread = _spread(rows)
    for begin in range(0, len(columns), layout.block):
        here, behind = slice(begin, begin + layout.block), slice(begin + layout.block, None)
        scale, zero = grid(columns[here], counts[here], layout, SHRINKS)
        levels[here], errors = _round(columns[here], scale, zero, spread[here, here], 2**layout.bits - 1)
        columns[behind].addmm_(spread[here, behind].T, errors, alpha=-1)
        yield scale, zero


def _spread(rows: torch.Tensor) -> torch.Tensor:
    """U (K, K), of what is given (T, K)."""
    import torch

    moments = rows.T @ rows
    moments.diagonal().add_(DAMPING * moments.diagonal().mean() + 1e-12)
    root = torch.linalg.cholesky(moments.flip(0, 1)).flip(0, 1)  # upper triangular, and H is root root'
    inverse: torch.Tensor = torch.linalg.solve_triangular(root, torch.eye(len(root)), upper=True)
    return inverse


def _round(
    columns: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, spread: torch.Tensor, top: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The levels of a block's columns (block, N), and the errors, over U's diagonal, for the columns behind it.

    Within a block a row has one scale, so that all is reckoned in levels.
    """
    import torch

    diagonal = spread.diagonal()[:, None]
    wanted = columns / not_zero(scale) + zero
    levels, less = torch.empty_like(wanted), torch.empty_like(wanted)
    shares = (spread / diagonal)[:, :, None]
    for at, column in enumerate(wanted):
        level = torch.round(column, out=levels[at]).clamp_(0, top)
        error = torch.sub(column, level, out=less[at])
        wanted[at + 1 :].addcmul_(shares[at, at + 1 :], error, value=-1)
    return levels, less.mul_(scale).div_(diagonal)
