"""Memory and disk of a plan are upper bounds of what its run takes, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from needs import ROOT
from tiny.models import save
from tiny.rows import SHOP, write_chats
from tunesmith.recipe import Recipe
from tunesmith.verbs.plan import plan

SMALL_REAL = "bundle:smollm2-135m-instruct"
METHODS: dict[str, dict[str, Any]] = {
    "full": {"kind": "full"},
    "lora": {"kind": "lora", "rank": 8},
    "freeze with kept layers": {"kind": "freeze", "layers": 0.5},
    "prefix": {"kind": "prefix"},
}

# A process begins with the peak of the one that started it, and this one is large: a small one stands between.
MEASURE = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def tree_of(base: str, method: dict[str, Any], folder: Path, n_rows: int, epochs: float) -> dict[str, Any]:
    pairs = {f"{ask} ({number})": answer for number in range(n_rows) for ask, answer in SHOP.items()}
    data = write_chats(folder / "rows.jsonl", dict(list(pairs.items())[:n_rows]))
    run = {"epochs": epochs, "checkpoint_minutes": 0.01, "learning_rate": 1e-3}
    return {"base": base, "data": {"train": str(data), "test": 0.2}, "method": method, "run": run}


def taken(tree: dict[str, Any], folder: Path) -> tuple[int, int]:
    """The peak memory of a process that tunes, and the most bytes that its run folder held."""
    (folder / "recipe.yaml").write_text(json.dumps(tree), encoding="utf-8")  # JSON is YAML
    words = [sys.executable, "-m", "tunesmith", "tune", str(folder / "recipe.yaml"), "--into", str(folder / "run")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_WAIT_POLICY": "passive"}
    measured = [sys.executable, "-S", "-c", MEASURE, *words, "--quiet"]
    child = subprocess.Popen(measured, stdout=subprocess.PIPE, text=True, env=environment)
    most = 0
    while child.poll() is None:
        most = max(most, size(folder / "run"))
        time.sleep(0.02)
    assert child.returncode == 0
    assert child.stdout is not None
    unit = 1 if sys.platform == "darwin" else 1024
    return int(child.stdout.read().split()[-1]) * unit, max(most, size(folder / "run"))


def size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):  # which passes over folders that go meanwhile
        for name in names:
            with suppress(OSError):
                total += (Path(place) / name).stat().st_size
    return total


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system does not say what a process took; run it on Linux")
@pytest.mark.parametrize(("base", "name"), [*(("tiny", name) for name in METHODS), (SMALL_REAL, "lora")])
def test_a_run_stays_within_the_bounds_of_its_plan(base: str, name: str, tmp_path: Path) -> None:
    is_tiny = base == "tiny"
    named = str(save(tmp_path / "base", num_hidden_layers=4, initializer_range=0.15)) if is_tiny else base
    tree = tree_of(named, METHODS[name], tmp_path, n_rows=40 if is_tiny else 20, epochs=2 if is_tiny else 1.2)
    planned = plan(Recipe.model_validate(tree), into=tmp_path / "run", probe=False).or_raise()
    assert planned.ready.settings is not None
    assert planned.ready.settings.keeps_below == (name == "freeze with kept layers")
    memory, disk = taken(tree, tmp_path)
    assert memory <= max(planned.memory_bytes, planned.host_memory_bytes)
    assert disk <= planned.disk_bytes
