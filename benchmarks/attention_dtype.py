"""Attention on the processor, forward and backward, in bfloat16 against float32, for documents of some lengths.

`python benchmarks/attention_dtype.py`. The shapes are those of a packed row of SmolLM2-135M, 9 heads of 64 and about
1,024 tokens. Both sides are fed the same bfloat16 numbers, as in training; the float32 side is what
`learn/merged_attention.py` does where keys are few, its casts included. Before a time is believed, the two have to give
the same output and gradients within what bfloat16 rounds away.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import machine
import torch
from torch import Tensor

N_ROUNDS = 20
TOKENS, LENGTHS = 1024, (64, 128, 256, 384, 512, 1024)
SAME = 2e-2  # relative, Frobenius: some times bfloat16's 2^-8
ahead = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
back = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def one(dtype: torch.dtype, parts: Sequence[Tensor]) -> tuple[dict[str, float], list[Tensor]]:
    """Seconds of both ways, and the output with the three gradients in bfloat16."""
    began = time.perf_counter()
    wide = [part.to(dtype) for part in parts]
    out, sums = ahead(*wide, 0.0, True)
    between = time.perf_counter()
    slopes = back(torch.ones_like(out), *wide, out, sums, 0.0, True)
    made = [each.to(torch.bfloat16) for each in (out, *slopes)]
    return {"forward": between - began, "backward": time.perf_counter() - between}, made


def measured(length: int) -> dict[str, Mapping[str, float]]:
    """Milliseconds of each way by type, medians of rounds taken in turn, so that other work hits both alike."""
    torch.manual_seed(0)
    parts = [torch.randn(TOKENS // length, length, 9, 64, dtype=torch.bfloat16).transpose(1, 2) for _ in range(3)]
    sides = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    given = {name: one(dtype, parts)[1] for name, dtype in sides.items()}
    gaps = [
        float((low.float() - high.float()).norm() / high.float().norm())
        for low, high in zip(given["bfloat16"], given["float32"], strict=True)
    ]
    assert len(gaps) == 4
    assert max(gaps) < SAME, gaps
    taken = [{name: one(dtype, parts)[0] for name, dtype in sides.items()} for _ in range(N_ROUNDS)]
    return {
        way: {name: round(1000 * statistics.median(told[name][way] for told in taken), 3) for name in sides}
        for way in ("forward", "backward")
    }


def main() -> None:
    told = {
        "milliseconds_by_length": {str(length): measured(length) for length in LENGTHS},
        "machine": machine.processor(),
        "threads": torch.get_num_threads(),
        "packages": machine.versions(["torch"]),
    }
    print(json.dumps(told, indent=2))
    Path(__file__).with_name("results").joinpath("attention_dtype.json").write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
