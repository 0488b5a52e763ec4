"""kill -9 in every stage of a run: the same command goes on, and nothing half is taken for whole."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from needs import need_node
from tiny.models import save
from tiny.rows import write_chats
from tunesmith.artifact import Run

RECIPE = """
base: {base}
data: {{train: {data}}}
method: {{kind: lora, rank: 4, targets: [q_proj, v_proj]}}
run: {{epochs: 30, batch_size: 2, gradient_accumulation_steps: 1, learning_rate: 1e-3, checkpoint_minutes: 1e-6}}
export:
  - {{kind: gguf, types: [f32, q8_0]}}
  - {{kind: web, dtypes: [fp32]}}
"""
SECONDS = 240  # within which a stage has to come


def holds(pattern: str) -> Callable[[Path], bool]:
    """Whether something stands in the run's folder under a name of this pattern."""
    return lambda folder: next(folder.glob(pattern), None) is not None


STAGES: dict[str, Callable[[Path], bool]] = {
    "the first steps": holds("metrics.jsonl"),
    "a checkpoint": holds("checkpoints/step-*5"),
    "a later checkpoint": holds("checkpoints/step-*9?"),
    "the adapter is there": holds("adapter/adapter_model.safetensors"),
    "the model is being written": holds(".part-*-model"),
    "the run is done": holds("manifest.json"),
    "GGUF is being written": holds("exports/.part-*-gguf"),
    "a GGUF of two": holds("exports/.part-*-gguf/model-f32.gguf"),
    "GGUF is done": holds("exports/gguf/manifest.json"),
    "the page is being written": holds("exports/.part-*-web"),
    "the graph is written": holds("exports/.part-*-web/model/onnx/model.onnx"),
    "the page is done, and checks begin": holds("exports/web/manifest.json"),
}


def start(recipe: Path, folder: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "tunesmith", "run", str(recipe), "--into", str(folder), "--json", "--quiet"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, object]:
    out, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said[-2000:] + out[-2000:]
    return dict(json.loads(out))


def killed_in(stage: str, recipe: Path, folder: Path) -> bool:
    """Start the run and kill it once the stage is seen; False when it ended before."""
    process = start(recipe, folder)
    end = time.monotonic() + SECONDS
    while process.poll() is None:
        assert time.monotonic() < end, f"{stage}: not seen in {SECONDS} s"
        if STAGES[stage](folder):
            process.kill()
            process.communicate()
            return process.returncode < 0
        time.sleep(0.002)
    assert process.returncode == 0, process.communicate()
    return False


def weights_of(folder: Path) -> str:
    return hashlib.sha256((folder / "model/model.safetensors").read_bytes()).hexdigest()


def steps_of(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_that_is_killed_in_every_stage_ends_as_one_that_never_was(tmp_path: Path) -> None:
    need_node()
    base, data = save(tmp_path / "base"), write_chats(tmp_path / "rows.jsonl")
    recipe = tmp_path / "kill.yaml"
    recipe.write_text(RECIPE.format(base=base, data=data))
    straight = finish(start(recipe, tmp_path / "straight"))
    folder = tmp_path / "killed"
    killed = [stage for stage in STAGES if killed_in(stage, recipe, folder)]
    assert len(killed) >= len(STAGES) - 2, killed  # a stage that lasts milliseconds may be missed
    ended = finish(start(recipe, folder))
    assert weights_of(folder) == weights_of(tmp_path / "straight")
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [
        json.loads(line)["step"] for line in (tmp_path / "straight/metrics.jsonl").read_text().splitlines()
    ]
    assert list(Run(folder).exports) == ["gguf", "web"]
    assert list(folder.rglob(".part-*")) == []
    verdicts = [
        {(one["check"], one["variant"], one["runtime"]): one["verdict"] for one in tree["checks"]["findings"]}  # type: ignore[index]
        for tree in (straight, ended)
    ]
    assert verdicts[0] == verdicts[1]
    assert len(verdicts[0]) == 20
