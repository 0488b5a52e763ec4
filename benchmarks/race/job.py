"""What every side is given and what it gives back, as files: nothing here knows a trainer.

A job is a folder: `model/` (the base), `adapter/` (start values as PEFT saves them, where the method has such) and
`job.json`. A side runs in a Python of its own, `python side.py JOB RESULT`, and leaves `result.json` and
`slopes.safetensors`, the gradients of its first step.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

BEGAN = float(os.environ.get("RACE_BEGAN", time.time()))  # when the process was started, seconds since 1970

SOFT_PROMPTS = ("embed_tokens.rows.weight", "prompt_encoder.default.embedding.weight")  # ours, and PEFT's


@dataclass(frozen=True)
class Job:
    """Rows in steps, and how they are learnt. `learning_rate` falls to nothing over all steps, by half a cosine."""

    rows: list[tuple[list[int], list[float]]]  # ids, and what each counts in the loss
    steps: list[list[int]]  # rows of each step, by number
    method: dict[str, Any]
    learning_rate: float
    max_grad_norm: float
    seed: int
    tree: dict[str, Any]  # the recipe
    held_out: list[tuple[list[int], list[float]]]
    peers: dict[str, Any] = field(default_factory=dict)  # what they are given in place of the above

    def of(self, side: str) -> Job:
        """The job as that side has it."""
        return self if side.startswith("tunesmith") else replace(self, **self.peers)

    def write(self, folder: Path) -> None:
        (folder / "job.json").write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Job:
        return cls(**json.loads((folder / "job.json").read_text(encoding="utf-8")))

    @property
    def rows_per_step(self) -> int:
        return max(len(step) for step in self.steps)

    def supervised(self, step: Sequence[int]) -> int:
        """Tokens of a step that carry loss."""
        return sum(sum(1 for weight in self.rows[row][1][1:] if weight) for row in step)

    def tokens(self, step: Sequence[int]) -> int:
        return sum(len(self.rows[row][0]) for row in step)

    def padded(self, step: Sequence[int]) -> int:
        """Tokens where each row is as long as the longest of the step."""
        return len(step) * max(len(self.rows[row][0]) for row in step)


class Watch:
    """When each step of a side's optimizer ended, and the gradients that it saw first; the same for all sides."""

    def __init__(self, result: Path, name_of: Callable[[], Mapping[int, str]]) -> None:
        """`name_of` gives the names of the trainable weights by the id of the tensor."""
        from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

        self.result, self.name_of = result, name_of
        self.ends: list[float] = []
        register_optimizer_step_pre_hook(lambda *one: self._before(one[0]))
        register_optimizer_step_post_hook(lambda *one: self.ends.append(time.time()))

    def _before(self, optimizer: Any) -> None:
        if self.ends or (self.result / "slopes.safetensors").exists():
            return
        from safetensors.torch import save_file

        names = self.name_of()
        slopes = {
            plain(names[id(weight)]): weight.grad.float().contiguous()
            for group in optimizer.param_groups
            for weight in group["params"]
            if weight.grad is not None
        }
        save_file(slopes, self.result / "slopes.safetensors")

    def tell(self, losses: Sequence[float], **more: Any) -> None:
        """Write the result; `losses` are those of the steps, means over their learnt tokens."""
        told = {
            "losses": list(losses),
            "first_step_seconds": self.ends[0] - BEGAN,
            "step_seconds": [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)],
            **more,
        }
        (self.result / "result.json").write_text(json.dumps(told), encoding="utf-8")


def plain(name: str) -> str:
    """A weight's name without what the libraries put round it."""
    if name.endswith(SOFT_PROMPTS):
        return "soft_prompt"
    for word in ("base_model.model.", ".default", "module."):
        name = name.replace(word, "")
    return name


def versions(*packages: str) -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in packages}
