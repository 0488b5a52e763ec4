"""LLaMA-Factory by its own `run_exp`: `python side_llamafactory.py JOB RESULT OPTIONS`, with arguments of its recipe.

It is given the rows as tokens, which it takes from a folder, and is asked not to shuffle them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from job import Job, Watch, versions


def main(folder: Path, result: Path, options: dict[str, Any]) -> None:
    from datasets import Dataset, DatasetDict
    from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer
    from llamafactory.train.tuner import run_exp
    from side_trainer import labels

    job = Job.read(folder).of("llamafactory")
    if job.method["kind"] not in ("lora", "full"):
        raise SystemExit(f"no way to give it the same {job.method['kind']}")
    at_once = options.pop("rows_at_once", job.rows_per_step)
    taken = [job.rows[row] for step in job.steps for row in step]
    rows = [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels(ids, weights)} for ids, weights in taken
    ]
    DatasetDict(train=Dataset.from_list(rows)).save_to_disk(str(result / "rows"))
    losses, model = [0.0], dict[str, Any]()
    watch = Watch(result, lambda: {id(weight): name for name, weight in model["it"].named_parameters()})
    step = CustomSeq2SeqTrainer.training_step

    def training_step(self: Any, *given: Any, **named: Any) -> Any:
        model["it"] = self.model
        loss = step(self, *given, **named)
        if len(losses) == len(watch.ends):
            losses.append(0.0)
        losses[-1] += float(loss)
        return loss

    CustomSeq2SeqTrainer.training_step = training_step
    adapter = folder / "adapter"
    run_exp(
        {
            "stage": "sft",
            "do_train": True,
            "model_name_or_path": str(folder / "model"),
            "template": "default",
            "finetuning_type": job.method["kind"],
            **({"adapter_name_or_path": str(adapter)} if adapter.is_dir() else {}),
            "dataset": "rows",  # has to be named, and is not looked for
            "tokenized_path": str(result / "rows"),
            "output_dir": str(result / "out"),
            "per_device_train_batch_size": at_once,
            "gradient_accumulation_steps": job.rows_per_step // at_once,
            "max_steps": len(job.steps),
            "learning_rate": job.learning_rate,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0,
            "weight_decay": 0.0,
            "max_grad_norm": job.max_grad_norm,
            "seed": job.seed,
            "disable_shuffling": True,
            "use_cpu": True,
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
            **options,
        }
    )
    told = versions("torch", "transformers", "peft", "llamafactory")
    watch.tell(losses, settings=options | {"rows_at_once": at_once}, versions=told)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
