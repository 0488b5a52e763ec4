"""The first step in float32, a row at a time, by transformers and PEFT alone: what all sides are held against."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from job import Job, plain
from safetensors.torch import save_file
from side_trainer import begun


def main(folder: Path, result: Path) -> None:
    job = Job.read(folder)
    model = begun(job, folder, torch.float32).train()
    step = job.steps[0]
    total = sum(sum(job.rows[row][1][1:]) for row in step)
    loss = 0.0
    for row in step:
        ids, weights = (torch.tensor(one) for one in job.rows[row])
        each = torch.nn.functional.cross_entropy(
            model(input_ids=ids[None]).logits[0, -len(ids) : -1], ids[1:], reduction="none"
        )
        mean = (each * weights[1:]).sum() / total
        mean.backward()
        loss += mean.item()
    slopes = {plain(name): one.grad.contiguous() for name, one in model.named_parameters() if one.grad is not None}
    save_file(slopes, result / "slopes.safetensors")
    (result / "result.json").write_text(json.dumps({"losses": [loss]}), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
