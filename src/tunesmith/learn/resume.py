"""Checkpoints: all that a run needs to go on as if it had never stopped, written whole, as safetensors and JSON."""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from tunesmith import files
from tunesmith.errors import Fault, LearnError
from tunesmith.learn import optimizer as optimizers
from tunesmith.learn.settings import Settings
from tunesmith.text.example import Tokens

FOLDER = "checkpoints"
STATE = "state.json"  # written last: a folder without it is no checkpoint
MACHINE = frozenset(
    {
        "device",
        "dtype",
        "onednn",
        "most_rows",
        "most_tokens",
        "recompute",
        "keeps_below",
        "save_dtype",
        "checkpoint_minutes",
    }
)
"""Settings that change how a step is computed or kept, not which step it is: a run may go on on another machine."""


class Keeper(Protocol):
    """Who can save and put back the weights that move."""

    def save(self, model: nn.Module, into: Path) -> None:
        """Write what was learnt into a folder."""

    def load(self, model: nn.Module, folder: Path) -> None:
        """Put it back."""


@dataclass(frozen=True)
class State:
    """Where a run stands. Order of the rows and dropout follow from seed and step, so they need no place here."""

    step: int
    fingerprint: str  # of the settings and rows: what has to be the same for the trajectory to be the same
    seconds: float  # spent so far


def fingerprint(settings: Settings, rows: Sequence[Tokens]) -> str:
    """What has to be the same for a run to go on: the rows, and all that decides order and size of the steps."""
    told = hashlib.sha256(files.sha256_of({k: v for k, v in asdict(settings).items() if k not in MACHINE}).encode())
    for row in rows:
        told.update(array("q", [len(row.ids), *row.ids]).tobytes())
        told.update(array("d", row.weights).tobytes())
    return told.hexdigest()


def write(run: Path, state: State, model: nn.Module, optimizer: torch.optim.Optimizer, keeper: Keeper) -> Path:
    """A checkpoint of this step; the one before it goes once this one is whole."""
    into = run / FOLDER / f"step-{state.step:07d}"
    with files.whole_folder(into) as beside:
        keeper.save(model, beside / "weights")
        save_file(optimizers.state(model, optimizer), beside / "optimizer.safetensors")
        files.write_json(beside / STATE, asdict(state))
    for older in _all(run):
        if older != into:
            shutil.rmtree(older, ignore_errors=True)
    return into


def latest(run: Path) -> tuple[Path, State] | None:
    """The newest checkpoint of a run; None where there is none."""
    for folder in reversed(_all(run)):
        try:
            return folder, State(**json.loads((folder / STATE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
    return None


def restore(
    run: Path, fingerprint: str, model: nn.Module, optimizer: torch.optim.Optimizer, keeper: Keeper
) -> State | None:
    """Put model and optimizer back where the newest checkpoint left them; None where there is none.

    Raises:
        LearnError: `learn/other-trajectory`, when the checkpoint was made under other settings or rows.
    """
    found = latest(run)
    if found is None:
        return None
    folder, state = found
    if state.fingerprint != fingerprint:
        raise LearnError(
            Fault(
                "learn/other-trajectory",
                "the checkpoint was made with other settings or other rows, so it cannot be gone on from",
                fix="put the recipe and the data back as they were, or begin anew with --fresh",
                file=str(folder),
            )
        )
    try:
        keeper.load(model, folder / "weights")
        optimizers.load_state(model, optimizer, load_file(folder / "optimizer.safetensors"))
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise LearnError(
            Fault(
                "learn/damaged-checkpoint",
                f"the checkpoint of step {state.step} cannot be read: {error}",
                fix="begin anew with --fresh (what is there is kept beside it)",
                file=str(folder),
            )
        ) from None
    return state


def _all(run: Path) -> list[Path]:
    return sorted((run / FOLDER).glob("step-*"))
