"""Trainers of the Hugging Face family: `python side_trainer.py JOB RESULT OPTIONS`.

`trainer` in the options is trl or hf; the others are arguments of the trainer's own configuration.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from job import Job, Watch, versions
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(folder: Path, result: Path, options: dict[str, Any]) -> None:
    job = Job.read(folder).of("trainer")
    trainer_class, config_class = trainers(options.pop("trainer"))
    weights_dtype = getattr(torch, options.pop("weights", "float32"))
    at_once = options.pop("rows_at_once", job.rows_per_step)
    by_length = options.pop("by_length", False)
    if by_length:
        at_once = max(1, at_once // 2)
    model = begun(job, folder, weights_dtype)
    config = config_class(
        output_dir=str(result / "out"),
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=job.rows_per_step // at_once,
        max_steps=len(job.steps),
        learning_rate=job.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=job.max_grad_norm,
        seed=job.seed,
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
        **options,
    )
    losses = [0.0]

    class InOrder(trainer_class):  # type: ignore[misc, valid-type]
        """Takes the rows as they come, and keeps the loss of each step."""

        def _get_train_sampler(self, dataset: Any = None) -> Any:
            return SequentialSampler(dataset if dataset is not None else self.train_dataset)

        def training_step(self, *given: Any, **named: Any) -> Any:
            loss = super().training_step(*given, **named)
            if len(losses) == len(watch.ends):
                losses.append(0.0)
            losses[-1] += float(loss)
            return loss

    watch = Watch(result, lambda: {id(weight): name for name, weight in model.named_parameters()})
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    trainer = InOrder(
        model=model, args=config, train_dataset=dataset(job, by_length), **beside(trainer_class.__name__, tokenizer)
    )
    trainer.train()
    watch.tell(
        losses,
        held_out=[held_out_loss(model, job)] if job.held_out else [],
        settings=options | {"rows_at_once": at_once, "weights": str(weights_dtype)},
        attention=model.config._attn_implementation,
        versions=versions(
            "torch", "transformers", "peft", *(["trl"] if trainer_class.__name__ == "SFTTrainer" else [])
        ),
    )


def trainers(name: str) -> tuple[Any, Any]:
    if name == "trl":
        from trl import SFTConfig, SFTTrainer

        return SFTTrainer, SFTConfig
    from transformers import Trainer, TrainingArguments

    return Trainer, TrainingArguments


def begun(job: Job, folder: Path, dtype: torch.dtype) -> Any:
    """The model with what the method moves, at the job's start values."""
    stored: dict[str, Any] = {}
    if job.method["kind"] == "qlora":
        from transformers import BitsAndBytesConfig

        nf4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": dtype}
        stored = {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, **nf4)}
    model: Any = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=dtype, **stored)
    if job.method["kind"] == "prompt":
        model = with_soft_prompt(model, folder / "adapter")
    elif (folder / "adapter").is_dir():
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder / "adapter", is_trainable=True)
    elif job.method["kind"] == "freeze":
        moves = set(job.method["moves"])
        for name, weight in model.named_parameters():
            weight.requires_grad_(name in moves)
    return model


def with_soft_prompt(model: Any, adapter: Path) -> Any:
    """PEFT's prompt tuning with these rows; by itself it takes no saved ones that are to learn on."""
    from peft import PromptTuningConfig, TaskType, get_peft_model
    from safetensors.torch import load_file

    rows = load_file(adapter / "adapter_model.safetensors")["prompt_embeddings"]
    model = get_peft_model(model, PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=len(rows)))
    with torch.no_grad():
        model.prompt_encoder["default"].embedding.weight.copy_(rows)
    return model


@torch.no_grad()
def held_out_loss(model: Any, job: Job) -> float:
    """Mean over the learnt tokens of the rows held out, in float32, a row at a time."""
    model.eval()
    total = learnt = 0.0
    for ids, weights in job.held_out:
        told, counts = torch.tensor(ids), torch.tensor(weights)[1:]
        logits = model(input_ids=told[None]).logits[0, -len(ids) : -1].float()  # a soft prompt has some before
        total += float(torch.nn.functional.cross_entropy(logits, told[1:], reduction="none") @ counts)
        learnt += float(counts.sum())
    return total / learnt


def dataset(job: Job, by_length: bool = False) -> Any:
    """The rows as the steps take them; `by_length`: those of a step from the shortest to the longest."""
    from datasets import Dataset

    taken = [
        job.rows[row]
        for step in job.steps
        for row in (sorted(step, key=lambda row: len(job.rows[row][0])) if by_length else step)
    ]
    rows = [{"input_ids": ids, "labels": labels(ids, weights)} for ids, weights in taken]
    return Dataset.from_list(rows)


def labels(ids: list[int], weights: list[float]) -> list[int]:
    """What is to be predicted at each place; -100 where nothing is, as at the first."""
    return [one if weight and at else -100 for at, (one, weight) in enumerate(zip(ids, weights, strict=True))]


def beside(trainer: str, tokenizer: Any) -> dict[str, Any]:
    """What a trainer wants besides: TRL pads by itself, the plain one is given a collator."""
    if trainer == "SFTTrainer":
        return {"processing_class": tokenizer}
    from transformers import DataCollatorForSeq2Seq

    return {"data_collator": DataCollatorForSeq2Seq(tokenizer, padding=True)}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
