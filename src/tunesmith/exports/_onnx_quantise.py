"""Which matrices get 4 bits and which 8: the smallest plan that keeps the answers, found by measuring."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith import files, say
from tunesmith.exports._onnx_blocks import Layout
from tunesmith.exports._onnx_graph import save
from tunesmith.exports._onnx_half import halve
from tunesmith.exports._onnx_measure import Probe, finite, session
from tunesmith.exports._onnx_put_blocks import Store, put_blocks

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
FOUR = Layout(4, 32, symmetric=True)
FOUR_ZERO = Layout(4, 32, symmetric=False)
PLANS: Mapping[int, Sequence[Plan]] = {
    4: (
        Plan("4 bits", FOUR),
        Plan("4 bits, embedding and head in 8", FOUR_ZERO, HEAD),
        Plan("4 bits, embedding, head and down_proj in 8", FOUR_ZERO, (*HEAD, "down_proj")),
        Plan("the same, with v_proj and both outer layers", FOUR_ZERO, (*HEAD, "down_proj", "v_proj"), outer=True),
        Plan("4 bits for gate_proj and up_proj alone", FOUR_ZERO, (*HEAD, "down_proj", "att"), outer=True),
    ),
    8: (Plan("8 bits", EIGHT, unfold=True),),
}


@dataclass(frozen=True)
class Tried:
    """A plan, the size of its file, and what was measured."""

    plan: str
    n_bytes: int
    kl: float
    agreement: float

    def as_tree(self) -> dict[str, Any]:
        """For the manifest."""
        return {
            "plan": self.plan,
            "n_bytes": self.n_bytes,
            "kl": round(self.kl, 6) if math.isfinite(self.kl) else None,
            "agreement": round(self.agreement, 4),
        }


@dataclass(frozen=True)
class Chosen:
    """The plan that was taken, last of those that were tried."""

    tried: Sequence[Tried]
    limit: float
    n_data_files: int
    taken: Tried


def choose(graph: Path, store: Store, probe: Probe, dtype: str, path: Path) -> Chosen:
    """Writes `path` by the smallest plan whose mean KL is within the limit; by the nearest one, where none is.

    Raises:
        ExportError: `export/web-not-rounded`, `export/web-no-numbers`.
    """
    bits = int(dtype[1])
    limit, tried = KL_LIMIT[bits], []
    best: tuple[Tried, int, Path] | None = None
    with tempfile.TemporaryDirectory(prefix=files.PART, dir=path.parent) as folder:
        plans = PLANS[bits]
        with say.progress(f"quantise to {dtype}", len(plans), "plans") as bar:
            for index, plan in enumerate(plans):
                beside = Path(folder) / str(index) / path.name
                beside.parent.mkdir()
                model = put_blocks(graph, store, plan.layout, unfold=plan.unfold)
                if dtype.endswith("f16"):
                    halve(model)
                n_data_files = save(model, beside)
                one = Tried(plan.name, files.size_bytes(beside.parent), **probe.measure(session(beside)))
                tried.append(one)
                bar.advance(1, f"KL {one.kl:.4f}")
                if best is None or one.kl < best[0].kl:
                    best = (one, n_data_files, beside)
                if one.kl <= limit:
                    break
        assert best is not None
        finite(best[0].kl, dtype)
        for file in best[2].parent.iterdir():
            shutil.move(file, path.parent / file.name)
    return Chosen(tried, limit, best[1], best[0])
