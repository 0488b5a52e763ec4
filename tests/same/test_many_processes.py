"""Two processes learn as one does: the same losses at every step."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from same.test_trajectories import run
from tiny.models import save
from tunesmith.learn import log

TESTS = str(Path(__file__).resolve().parent.parent)
SCRIPT = f"""
import sys
from pathlib import Path
sys.path.insert(0, {TESTS!r})
import torch
torch.set_num_threads(1)
from same.test_trajectories import run
run(Path(sys.argv[1]), Path(sys.argv[2]), rows_per_step=5, most_tokens=20)
torch.distributed.destroy_process_group()
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    base = save(tmp_path / "base")
    _, alone = run(base, tmp_path / "alone", rows_per_step=5, most_tokens=20)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "1"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(base), str(tmp_path / "both")],
            env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    together = [line["loss"] for line in log.read(tmp_path / "both") if "loss" in line]
    assert together == pytest.approx(alone, rel=1e-4)
