"""What a result was measured on, in words that name no machine but its kind."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

FAST = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
"""What makes products fast, the most telling first."""


def processor() -> str:
    """The processor, what makes its bfloat16 fast or slow, and its cores."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    told = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    flags = set(told.get("flags", "").split())
    kind = next((word for word in FAST if word in flags), "plain")
    return f"{told.get('model name', platform.machine())}, {kind}, {os.cpu_count()} cores"


def versions(names: Sequence[str]) -> dict[str, str]:
    """The installed version of each package."""
    return {name: version(name) for name in names}
