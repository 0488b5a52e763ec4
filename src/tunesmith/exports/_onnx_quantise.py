"""Which matrices get 4 bits and which 8: the smallest plan that keeps the answers, found by measuring."""

from __future__ import annotations

import shutil
import tempfile
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith import files, say
from tunesmith.exports._onnx_blocks import Layout
from tunesmith.exports._onnx_graph import save
from tunesmith.exports._onnx_half import halve
from tunesmith.exports._onnx_measure import Measured, Probe, finite
from tunesmith.exports._onnx_put_blocks import Store, put_blocks
from tunesmith.exports._onnx_session import session

EIGHT = Layout(8, 32, symmetric=True)
KL_LIMIT = {4: 0.05, 8: 0.005, 16: 0.005}
"""Mean KL in nats up to which a plan is good enough; `docs/exports/web.md` says what these were measured against."""


@dataclass(frozen=True)
class Plan:
    """Which layout each matrix gets: `most`, but 8 bits for those whose name holds one of the words in `finer`."""

    name: str
    most: Layout
    finer: Sequence[str] = ()
    outer: bool = False
    """Whether the first and the last layer are finer too."""
    unfold: bool = False
    """Whether the matrices are unfolded to float32 when the file is loaded."""

    def layout(self, weight: str, n_layers: int) -> Layout:
        """The layout of one weight."""
        ends = (".layers.0.", f".layers.{n_layers - 1}.") if self.outer else ()
        return EIGHT if any(word in weight for word in (*self.finer, *ends)) else self.most


HEAD = ("lm_head", "embed_tokens")
FOUR = Layout(4, 32, symmetric=False)
PLANS: Mapping[int, Sequence[Plan]] = {
    4: (
        Plan("4 bits, embedding and head in 8", FOUR, HEAD),
        Plan("4 bits, embedding, head and down_proj in 8", FOUR, (*HEAD, "down_proj")),
        Plan("the same, with v_proj and both outer layers", FOUR, (*HEAD, "down_proj", "v_proj"), outer=True),
        Plan("4 bits for gate_proj and up_proj alone", FOUR, (*HEAD, "down_proj", "att"), outer=True),
    ),
    8: (Plan("8 bits", EIGHT, unfold=True),),
}


@dataclass(frozen=True)
class Tried:
    """A plan, the size of its file, and what was measured."""

    plan: str
    n_bytes: int
    measured: Measured

    def as_tree(self) -> dict[str, Any]:
        """For the manifest."""
        return {"plan": self.plan, "n_bytes": self.n_bytes, **self.measured.as_tree()}


@dataclass(frozen=True)
class Chosen:
    """The plan that was taken, and all that were tried, in their order."""

    tried: Sequence[Tried]
    limit: float
    n_data_files: int
    taken: Tried


def choose(graph: Path, store: Store, probe: Probe, dtype: str, path: Path) -> Chosen:
    """Writes `path` by the smallest plan that is near enough to the model; by the nearest one, where none is.

    Each plan keeps more than the one before it, so the smallest is found by halving, in two or three of five tries.

    Raises:
        ExportError: `export/web-not-rounded`, `export/web-no-numbers`.
    """
    bits = int(dtype[1])
    plans, limit = PLANS[bits], KL_LIMIT[bits]
    tries: dict[int, _Try] = {}
    with (
        tempfile.TemporaryDirectory(prefix=files.PART, dir=path.parent) as folder,
        say.progress(f"quantise to {dtype}", len(plans).bit_length(), "tries") as bar,
    ):

        def too_far(finer: int) -> bool:
            plan = plans[-1 - finer]
            tries[finer] = _try(graph, store, probe, plan, limit, dtype, Path(folder) / str(finer) / path.name)
            measured = tries[finer].tried.measured
            bar.advance(1, f"KL {measured.kl:.4f}")
            return not measured.enough

        n_good = bisect_left(range(len(plans)), True, key=too_far)
        taken = tries[n_good - 1] if n_good else _nearest(tries.values(), probe, limit)
        finite(taken.tried.measured.kl, dtype)
        for file in taken.path.parent.iterdir():
            shutil.move(file, path.parent / file.name)
    return Chosen([one.tried for one in tries.values()], limit, taken.n_data_files, taken.tried)


def _nearest(tries: Iterable[_Try], probe: Probe, limit: float) -> _Try:
    """The nearest of those that are too far, measured to the end."""
    nearest = min(tries, key=lambda one: one.tried.measured.distance)
    measured = probe.measure(session(nearest.path), limit)
    return replace(nearest, tried=replace(nearest.tried, measured=measured))


@dataclass(frozen=True)
class _Try:
    tried: Tried
    n_data_files: int
    path: Path


def _try(graph: Path, store: Store, probe: Probe, plan: Plan, limit: float, dtype: str, path: Path) -> _Try:
    path.parent.mkdir()
    model = put_blocks(graph, store, plan.layout, unfold=plan.unfold)
    if dtype.endswith("f16"):
        halve(model)
    n_data_files = save(model, path)
    tried = Tried(plan.name, files.size_bytes(path.parent), probe.measure(session(path), limit, to_the_end=False))
    return _Try(tried, n_data_files, path)
