"""Settings that must give one trajectory, and a run that was stopped in whatever way against one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tiny.models import save
from tiny.rows import random_rows
from tiny.settings import settings
from tunesmith.errors import LearnError
from tunesmith.learn import log, resume
from tunesmith.learn.loop import learn
from tunesmith.methods.lora import Lora
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load

ROWS = random_rows((12, 9, 20, 7, 12, 15, 8, 12, 30, 5, 11, 16), share=0.5)
METHOD = Lora(rank=4)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"))


def run(base: Path, folder: Path, **changes: Any) -> tuple[nn.Module, list[float]]:
    """The tuned model, and the loss of each step."""
    torch.manual_seed(0)
    model = METHOD.wrap(load(base), BaseFacts.read(base))
    learn(model, ROWS, ROWS[:3], settings(**changes), keeper=METHOD, run=folder)
    return model, [line["loss"] for line in log.read(folder) if "loss" in line]


def test_eight_rows_at_once_are_eight_rows_one_by_one(base: Path, tmp_path: Path) -> None:
    """The rows have different numbers of learnt tokens: a mean of means would differ."""
    _, at_once = run(base, tmp_path / "8x1", rows_per_step=8, most_rows=8, steps=4)
    _, added_up = run(base, tmp_path / "1x8", rows_per_step=8, most_rows=1, steps=4)
    assert at_once == pytest.approx(added_up, rel=1e-5)


def test_the_bound_on_tokens_at_once_changes_nothing(base: Path, tmp_path: Path) -> None:
    _, wide = run(base, tmp_path / "wide", most_tokens=1000)
    _, narrow = run(base, tmp_path / "narrow", most_tokens=10)
    assert wide == pytest.approx(narrow, rel=1e-5)


def test_documents_in_one_row_learn_as_documents_one_by_one(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, packed = run(base, tmp_path / "packed")
    monkeypatch.setattr("tunesmith.learn.attention._kinds_known", lambda model: False)
    _, single = run(base, tmp_path / "single")
    assert packed == pytest.approx(single, rel=1e-5)


def test_a_run_repeats_itself(base: Path, tmp_path: Path) -> None:
    assert run(base, tmp_path / "one")[1] == run(base, tmp_path / "two")[1]


def test_dropout_follows_from_the_seed_and_the_step(base: Path, tmp_path: Path) -> None:
    losses = []
    for name, seed in (("one", 1), ("two", 1), ("other", 2)):
        torch.manual_seed(0)
        dropping = Lora(rank=4, dropout=0.5)
        model = dropping.wrap(load(base), BaseFacts.read(base))
        learn(model, ROWS, [], settings(seed=seed, learning_rate=1e-2), keeper=dropping, run=tmp_path / name)
        losses.append([line["loss"] for line in log.read(tmp_path / name)])
    assert losses[0] == losses[1] != losses[2]


def test_every_line_of_the_metrics_has_the_promised_keys(base: Path, tmp_path: Path) -> None:
    run(base, tmp_path)
    keys = {"step", "epoch", "loss", "learning_rate", "gradient_norm", "learnt_tokens", "tokens", "seconds"}
    lines = log.read(tmp_path)
    assert all(set(line) in (keys, {"step", "held_out_loss"}) for line in lines)
    assert [line["step"] for line in lines if "held_out_loss" in line] == [0, 4, 8]
    assert sum(line.get("tokens", 0) for line in lines) == 2 * sum(len(row.ids) for row in ROWS)


def test_another_order_of_rows_is_another_run(base: Path, tmp_path: Path) -> None:
    run(base, tmp_path)
    with pytest.raises(LearnError, match="learn/other-trajectory"):
        run(base, tmp_path, seed=2)


def test_a_loss_that_is_no_number_stops_the_run(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = METHOD.wrap(load(base), BaseFacts.read(base))
    with torch.no_grad():
        next(weight for weight in model.parameters() if weight.requires_grad).fill_(float("nan"))
    with pytest.raises(LearnError, match="learn/not-finite"):
        learn(model, ROWS, [], settings(), keeper=METHOD, run=tmp_path)
    assert resume.latest(tmp_path) is None


SCRIPT = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from same.test_trajectories import METHOD, ROWS, run
from tunesmith.errors import LearnError
from tunesmith.learn import optimizer
before = optimizer.set_rate
def slowly(*args):  # so that the signal comes while it learns
    time.sleep({pause})
    before(*args)
optimizer.set_rate = slowly
try:
    run(Path({base!r}), Path({folder!r}), epochs=4.0, steps=16, checkpoint_minutes={minutes})
except LearnError as error:
    print(json.dumps([vars(one) for one in error.faults]))
    sys.exit(error.exit_code)
"""


def start(base: Path, folder: Path, pause: float, minutes: float) -> subprocess.Popen[str]:
    tests = str(Path(__file__).resolve().parent.parent)
    script = SCRIPT.format(tests=tests, base=str(base), folder=str(folder), pause=pause, minutes=minutes)
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_step(process: subprocess.Popen[str], folder: Path, step: int) -> None:
    for _ in range(1200):
        if any(line["step"] >= step and "loss" in line for line in log.read(folder)):
            return
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.05)
    raise AssertionError("the run did not get that far in a minute")


def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(base: Path, tmp_path: Path) -> None:
    _, straight = run(base, tmp_path / "straight", epochs=4.0, steps=16)
    folder = tmp_path / "stopped"
    process = start(base, folder, pause=0.2, minutes=10)
    wait_for_step(process, folder, 2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    (fault,) = json.loads(out)
    assert fault["code"] == "learn/interrupted"
    assert "--resume" in fault["fix"]
    found = resume.latest(folder)
    assert found is not None
    assert 2 <= found[1].step < 16
    _, resumed = run(base, folder, epochs=4.0, steps=16)
    assert resumed == straight


def test_ctrl_c_in_the_last_step_is_heard(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith.learn import loop

    real = loop.take_step

    def stopped(course: Any, step: Any) -> dict[str, Any]:
        told = real(course, step)
        if step.number == 8:
            signal.raise_signal(signal.SIGINT)
        return told

    monkeypatch.setattr(loop, "take_step", stopped)
    with pytest.raises(LearnError, match=r"learn/interrupted.*step 8 of 8"):
        run(base, tmp_path)
    found = resume.latest(tmp_path)
    assert found is not None
    assert found[1].step == 8


def test_a_checkpoint_cut_short_is_said_so(base: Path, tmp_path: Path) -> None:
    run(base, tmp_path)
    found = resume.latest(tmp_path)
    assert found is not None
    file = found[0] / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(LearnError, match="learn/damaged-checkpoint") as raised:
        run(base, tmp_path)
    assert "--fresh" in raised.value.faults[0].fix


def test_a_kill_leaves_a_run_that_can_go_on(base: Path, tmp_path: Path) -> None:
    _, straight = run(base, tmp_path / "straight", epochs=4.0, steps=16)
    folder = tmp_path / "killed"
    process = start(base, folder, pause=0.05, minutes=1e-9)  # a checkpoint at every step: the kill may fall into one
    wait_for_step(process, folder, 3)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    found = resume.latest(folder)
    assert found is not None
    _, resumed = run(base, folder, epochs=4.0, steps=16)
    assert resumed == straight
