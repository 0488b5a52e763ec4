"""Attention on the processor by way and type, for documents of some lengths: what `learn/merged_attention.py` goes by.

`python benchmarks/attention_dtype.py`. The shapes are those of a packed row of SmolLM2-135M, 9 heads of 64 on 3 of keys
and about 1,024 tokens. All ways are fed the same bfloat16 numbers, as in training, and give float32; casts are
included. Forward there is torch's kernel in either type; backward there are plain products in bfloat16 besides. Before
a time is believed, all have to give the same output and slopes within what bfloat16 rounds away.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import machine
import torch
from torch import Tensor

from tunesmith.learn import merged_attention
from tunesmith.learn.attention_parts import Part, documents_of
from tunesmith.learn.attention_products import Products
from tunesmith.learn.kept_memory import kept_memory

N_ROUNDS = 20
TOKENS, LENGTHS = 1024, (64, 96, 128, 200, 256, 384, 512, 1024)
SAME = 2e-2  # relative, Frobenius: some times bfloat16's 2^-8
KERNEL = {"kernel, bfloat16": torch.bfloat16, "kernel, float32": torch.float32}


class Row:
    """Documents of one length, and the ways through their attention."""

    def __init__(self, length: int) -> None:
        torch.manual_seed(0)
        n_tokens = TOKENS // length * length
        self.asked = [torch.randn(n_tokens, heads, 64, dtype=torch.bfloat16) for heads in (9, 3, 3)]
        self.given = torch.randn(n_tokens, 9, 64, dtype=torch.bfloat16)
        self.part = Part(slice(0, n_tokens), slice(0, n_tokens), TOKENS // length)
        self.out, self.sums = self.forward(torch.float32)

    def forward(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """What attention gives (T, H, D), and its sums (T, H), by the kernel."""
        return merged_attention.seen(self.part, merged_attention.ByType(*self.asked)(dtype), None)

    def backward(self, dtype: torch.dtype | None) -> tuple[Tensor, ...]:
        """The slopes of query, key and value: by the kernel in that type, else by products."""
        saved = (*self.asked, self.given, self.out, self.sums, None)
        if dtype is None:
            return Products(*saved).documents(documents_of([self.part]), 0)
        return merged_attention.Kernel(*saved)(self.part, dtype)


def measured(length: int) -> dict[str, Mapping[str, float]]:
    """Milliseconds by way, medians of rounds taken in turn, so that other work hits all alike."""
    row = Row(length)
    forward = {name: lambda dtype=dtype: row.forward(dtype) for name, dtype in KERNEL.items()}
    backward = {name: lambda dtype=dtype: row.backward(dtype) for name, dtype in KERNEL.items()}
    backward["products, bfloat16"] = lambda: row.backward(None)
    return {"forward": in_turn(forward), "backward": in_turn(backward)}


def in_turn(ways: Mapping[str, Callable[[], tuple[Tensor, ...]]]) -> dict[str, float]:
    """Milliseconds of each, once all give the same."""
    given = {name: way() for name, way in ways.items()}
    exact = given["kernel, float32"]
    gaps = [
        float((low.float() - high).norm() / high.norm())
        for told in given.values()
        for low, high in zip(told, exact, strict=True)
    ]
    assert len(gaps) == len(ways) * len(exact)
    assert max(gaps) < SAME, gaps
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(N_ROUNDS):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - began)
    return {name: round(1000 * statistics.median(seconds), 3) for name, seconds in taken.items()}


def main() -> None:
    with kept_memory():  # as in training
        taken = {str(length): measured(length) for length in LENGTHS}
    told = {
        "milliseconds_by_length": taken,
        "machine": machine.processor(),
        "threads": torch.get_num_threads(),
        "packages": machine.versions(["torch"]),
    }
    print(json.dumps(told, indent=2))
    path = Path(__file__).with_name("results") / "attention_dtype.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**kept, str(told["machine"]): told}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
