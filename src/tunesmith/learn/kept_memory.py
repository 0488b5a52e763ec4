"""Memory that a step frees is kept for the next one, where the C library can be told to.

A step takes and frees gigabytes. Given back to the system each time, they come back as fresh pages, each of which is a
fault and four thousand zeros to write: a quarter of the time of a step of full tuning.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# mallopt(3): what is freed at the top of the heap beyond so many bytes goes back, and requests that go round the heap.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
USUAL = {TRIM_THRESHOLD: 128 * 1024, MMAP_MAX: 65536}
KEPT = {TRIM_THRESHOLD: -1, MMAP_MAX: 0}


@contextmanager
def kept_memory() -> Iterator[bool]:
    """No memory goes back to the system within this block, and all of it afterwards; gives whether that can be had."""
    library = _glibc()
    if library is None:
        yield False
        return
    try:
        yield all(library.mallopt(what, value) for what, value in KEPT.items())
    finally:
        for what, value in USUAL.items():
            library.mallopt(what, value)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library of most Linux systems; None where it is another."""
    if platform.libc_ver()[0] != "glibc":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
