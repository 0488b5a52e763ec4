"""Attention on the processor, forward and backward, in bfloat16 against float32.

`python benchmarks/attention_dtype.py`. The shapes are those of a packed row of SmolLM2-135M: 9 heads of 64, documents
of 80 tokens, 16 at once. Both sides are fed the same bfloat16 numbers, as in training; the float32 side is what
`learn/attention.py` does, its casts included. Before a time is believed, the two have to give the same output and
gradients within what bfloat16 rounds away.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

N_ROUNDS = 30
SHAPE = (16, 9, 80, 64)  # documents, heads, tokens, head size
SAME = 2e-2  # relative, Frobenius: some times bfloat16's 2^-8


def in_bfloat16(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return scaled_dot_product_attention(query, key, value, is_causal=True)


def in_float32(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return in_bfloat16(query.float(), key.float(), value.float()).to(query.dtype)


def one(attend: Callable[..., Tensor], parts: list[Tensor]) -> tuple[float, list[Tensor]]:
    """Seconds, and the output with the three gradients."""
    inputs = [part.clone().requires_grad_() for part in parts]
    began = time.perf_counter()
    out = attend(*inputs)
    out.backward(torch.ones_like(out))
    return time.perf_counter() - began, [out.detach(), *(part.grad for part in inputs if part.grad is not None)]


def main() -> None:
    torch.manual_seed(0)
    parts = [torch.randn(SHAPE, dtype=torch.bfloat16) for _ in range(3)]
    sides = {"bfloat16": in_bfloat16, "float32": in_float32}
    given = {name: one(attend, parts)[1] for name, attend in sides.items()}
    gaps = [
        float((low.float() - high.float()).norm() / high.float().norm())
        for low, high in zip(given["bfloat16"], given["float32"], strict=True)
    ]
    assert len(gaps) == 4
    assert max(gaps) < SAME, gaps
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(N_ROUNDS):
        for name, attend in sides.items():  # in turn, so that other work on the machine hits both alike
            seconds[name].append(one(attend, parts)[0])
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    told = {
        "milliseconds": {name: round(1000 * taken, 3) for name, taken in medians.items()},
        "bfloat16_over_float32": round(medians["bfloat16"] / medians["float32"], 2),
        "largest_gap": round(max(gaps), 5),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine": _processor(),
    }
    print(json.dumps(told, indent=2))
    Path(__file__).with_name("results").joinpath("attention_dtype.json").write_text(json.dumps(told, indent=2) + "\n")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    told = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in told.get("flags", "").split()]
    return f"{told.get('model name', '')}: {', '.join(flags)}"


if __name__ == "__main__":
    main()
