"""What the machine has, on systems that say less than Linux does."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunesmith.machine import Machine, Speed, _others_seconds, count_cores, measure, peak_memory_bytes, processes_with
from tunesmith.verbs.doctor import doctor

GIB = 1024**3


class _Kernel:
    """Fills in the structure of 64 bytes as Windows documents it: length, load, seven sizes."""

    def GlobalMemoryStatusEx(self, status: Any) -> int:
        told = status._obj
        assert ctypes.sizeof(told) == 64 == told.length
        ctypes.memmove(ctypes.addressof(told) + 8, (12 * GIB).to_bytes(8, "little"), 8)
        return 1


@pytest.fixture
def _as_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sysconf", "getloadavg", "sched_getaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=_Kernel()), raising=False)


@pytest.mark.usefixtures("_as_on_windows")
def test_a_system_without_sysconf_and_load_says_its_memory_and_is_measured(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("tunesmith.machine._measure", lambda _: Speed({"float32": 1.0}, {"float32": 0.0}, 1e9))
    machine = Machine.look()
    assert 0 < machine.memory_bytes <= 12 * GIB
    assert machine.n_cores == count_cores() == os.cpu_count()
    assert measure(machine).gflops == {"float32": 1.0}


def test_doctor_says_what_the_machine_says() -> None:
    machine = Machine.look()
    said = {part.name: part.found for part in doctor().parts if part.group == "machine"}
    assert said["cores"] == str(machine.n_cores) == str(count_cores())
    assert said["memory"] == f"{machine.memory_bytes / GIB:.1f} GiB"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell nothing of other processes; run it on Linux")
def test_a_process_is_found_by_what_it_was_started_with_and_its_memory_is_told() -> None:
    word = f"/models/sha256-{os.getpid()}"
    holds = "held = b'x' * 100_000_000; print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", holds, word], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert processes_with(word) == [child.pid]
        told = peak_memory_bytes(child.pid)
        assert told is not None
        assert 1e8 < told < 1.5e8
        assert processes_with(word[:-1]) == []
        child.kill()
    assert processes_with(word) == []


BURN = """
import time
while time.process_time() < 0.5:
    pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell nothing of other processes; run it on Linux")
def test_what_others_use_of_the_processor_is_told_at_once() -> None:
    before = _others_seconds()
    subprocess.run([sys.executable, "-c", BURN], check=True)
    assert _others_seconds() - before >= 0.45


def test_what_is_measured_beside_work_that_began_a_moment_ago_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("tunesmith.machine.is_busy", lambda _: False)  # as a minute's average says
    monkeypatch.setattr("tunesmith.machine._measure", lambda _: Speed({"float32": 1.0}, {"float32": 0.0}, 1e9))
    for others, n_kept in (((0.0, 1e9), 0), ((7.0, 7.0), 1)):
        told = iter(others)
        monkeypatch.setattr("tunesmith.machine._others_seconds", lambda told=told: next(told))
        assert measure(Machine.look()).gflops == {"float32": 1.0}
        assert len(list(tmp_path.rglob("*.json"))) == n_kept
