"""What this machine has and is fast at, as values with the reason beside them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith import files


@dataclass(frozen=True)
class Chosen:
    """A value that was chosen for the person, and why."""

    name: str
    value: Any
    why: str


@dataclass(frozen=True)
class Machine:
    """Cores, memory and disk. Looking costs nothing; nothing is measured here."""

    n_cores: int
    memory_bytes: int
    free_disk_bytes: int
    gpu: str = ""
    gpu_memory_bytes: int = 0

    @classmethod
    def look(cls, folder: Path = Path()) -> Machine:
        """This machine; `folder` is where files will be written."""
        return cls(len(os.sched_getaffinity(0)), _memory_bytes(), files.free_bytes(folder.resolve()))


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
