"""Memory that a step frees is kept for the next one, where the C library can be told to.

A step takes and frees gigabytes. Given back to the system each time, they come back as fresh pages, each of which is a
fault and four thousand zeros to write: a quarter of the time of a step of full tuning.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import torch
from torch import Tensor

from tunesmith.machine import glibc

# mallopt(3): bytes that may lie free at the top of the heap, and the size from which a request goes round the heap.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
MIB = 2**20
USUAL = {TRIM_THRESHOLD: 64 * MIB, MMAP_THRESHOLD: 32 * MIB}
"""What the library arrives at by itself where much is taken and freed."""
KEPT = {TRIM_THRESHOLD: -1, MMAP_THRESHOLD: 32 * MIB}
"""Larger ones still come and go by themselves: on the heap they leave gaps, and it would grow from step to step.

What is as large, and is taken at every step, stands in a `Workspace`.
"""


@contextmanager
def kept_memory() -> Iterator[bool]:
    """No memory goes back to the system within this block, and all of it afterwards; gives whether that can be had."""
    library = glibc()
    if library is None:
        yield False
        return
    try:
        yield all(library.mallopt(what, value) for what, value in KEPT.items())
    finally:
        for what, value in USUAL.items():
            library.mallopt(what, value)
        library.malloc_trim(0)


class Workspace:
    """Memory for what is worked out and read within a call, that stays for the next one: the most that was taken."""

    def __init__(self) -> None:
        self._taken: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """A tensor of that shape with anything in it, in the memory that the last one of this name had."""
        n = prod(shape)
        held = self._taken.pop(name, None)
        if held is None or len(held) < n or held.dtype != dtype or held.device != device:
            held = None  # goes before the larger one comes
            held = torch.empty(n, dtype=dtype, device=device)
        self._taken[name] = held
        return held[:n].view(shape)
