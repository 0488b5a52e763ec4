"""tunesmith, by its own loop and with the values that its plan chooses: `python side_tunesmith.py JOB RESULT`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from job import Job, Watch, versions


def main(folder: Path, result: Path, options: dict[str, Any]) -> None:
    from tunesmith.learn.loop import learn
    from tunesmith.recipe import Recipe
    from tunesmith.text.example import Tokens
    from tunesmith.verbs.plan import plan
    from tunesmith.verbs.tune import begun

    job = Job.read(folder)
    tree = job.tree | {"run": {**job.tree["run"], **options}}
    planned = plan(Recipe.model_validate(tree), into=result / "run", probe=False).or_raise()
    settings = replace(planned.ready.settings, checkpoint_minutes=1e6, steps=len(job.steps))
    method: Any = planned.ready.method
    model = begun(method, folder / "model", planned.ready.facts, settings)
    if (folder / "adapter").is_dir():
        method.load(model, folder / "adapter")
    watch = Watch(result, lambda: {id(weight): name for name, weight in model.named_parameters()})
    lead = method.lead(planned.ready.facts)
    rows = [Tokens(tuple(ids), tuple(weights)).after(lead) for ids, weights in job.rows]
    held_out = [Tokens(tuple(ids), tuple(weights)).after(lead) for ids, weights in job.held_out]
    learn(model, rows, held_out, settings, keeper=method, run=result / "run", rates=method.rates(model))
    lines = [json.loads(line) for line in (result / "run/metrics.jsonl").read_text().splitlines()]
    watch.tell(
        [line["loss"] for line in lines if "loss" in line],
        held_out=[line["held_out_loss"] for line in lines if "held_out_loss" in line],
        settings={one.name: f"{one.value} ({one.why})" for one in planned.values},
        dtype=settings.dtype,
        versions=versions("tunesmith", "torch", "transformers", "peft"),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
