"""The works: rows, base and method, made ready by tunesmith's own plan and written down as a job."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from job import Job

HELD_OUT = 64  # rows whose loss is told at the end


@dataclass(frozen=True)
class Work:
    """One line of the table: `steps` steps of new rows, all of which are gone over `epochs` times."""

    name: str
    data: str
    rows_per_step: int
    steps: int
    method: Mapping[str, Any]
    model: str = "smollm2-135m"
    epochs: float = 1.0
    peers_at_once: int = 8
    """Rows that a padding peer takes at once: the most that its logits leave memory for."""
    held_out: str = ""
    """Rows whose loss is told at the end, some of this file; none where it is empty."""
    peers_rate: float | None = None
    """The rate that peers learn at, where it is not tunesmith's; `peers_epochs` alike."""
    peers_epochs: float | None = None
    course_rows: int = 4
    """Rows of a step where a course of losses is judged: few, since a peer in float32 has to come to its end."""

    def course(self) -> Work:
        """The same work in as many steps as a course is judged over, of fewer rows each."""
        each = min(self.course_rows, self.rows_per_step)
        alike: dict[str, Any] = {"held_out": "", "peers_rate": None, "peers_epochs": None}
        return replace(self, steps=math.ceil(COURSE_STEPS / self.epochs), rows_per_step=each, **alike)


COURSE_STEPS = 100
TRL_RATE = 2e-4
"""What TRL's own script for LoRA (scripts/sft.py) and its pages on PEFT learn at."""
LORA: Mapping[str, Any] = {"kind": "lora", "rank": 16, "alpha": 32}
WORKS = {
    work.name: work
    for work in (
        Work("chat-gsm8k-lora", "gsm8k-train.jsonl", 8, 8, LORA, course_rows=2),
        Work("chat-snips-lora", "snips-train.jsonl", 16, 12, LORA),
        Work("prefix-banking77-lora", "banking77-train.jsonl", 32, 3, LORA, course_rows=2),
        Work("chat-snips-freeze-3-epochs", "snips-train.jsonl", 16, 8, {"kind": "freeze", "layers": 0.25}, epochs=3),
        Work("text-shakespeare-full", "shakespeare.txt", 8, 4, {"kind": "full"}, peers_at_once=2, course_rows=1),
        Work("chat-snips-qlora", "snips-train.jsonl", 16, 8, {**LORA, "kind": "qlora"}),
        Work("chat-snips-dora", "snips-train.jsonl", 16, 8, {**LORA, "variant": "dora"}),
        Work("chat-snips-prompt-50", "snips-train.jsonl", 16, 8, {"kind": "prompt", "length": 50}),
        Work("chat-snips-full", "snips-train.jsonl", 16, 8, {"kind": "full"}),
        Work("chat-snips-lora-3-epochs", "snips-train.jsonl", 16, 44, LORA, epochs=3, held_out="snips-test.jsonl"),
        Work(
            "chat-snips-lora-to-loss",
            "snips-train.jsonl",
            16,
            44,
            LORA,
            held_out="snips-test.jsonl",
            peers_rate=TRL_RATE,
            peers_epochs=3,
        ),
        Work("chat-gsm8k-lora-qwen", "gsm8k-train.jsonl", 8, 3, LORA, model="qwen3-0.6b-shape", course_rows=1),
    )
}


def write(work: Work, data: Path, folder: Path, steps: int | None = None) -> Job:
    """The job of a work, in a new folder."""
    from tunesmith.learn.loop import course_steps
    from tunesmith.recipe import Recipe
    from tunesmith.verbs.plan import plan

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    bring(work.model, folder / "model")
    n_steps = steps or work.steps
    rows = cut(data / work.data, n_steps * work.rows_per_step, folder)
    run = {"epochs": work.epochs, "batch_size": work.rows_per_step, "weight_decay": 0.0, "warmup_ratio": 0.0, "seed": 1}
    objective = "sft" if rows.suffix == ".jsonl" else "uft"
    files = {"train": str(rows)}
    if work.held_out:
        files["test"] = str(cut(data / work.held_out, HELD_OUT, folder))
    tree = {"base": str(folder / "model"), "data": files, "objective": objective}
    tree |= {"method": dict(work.method), "run": run}
    planned = plan(Recipe.model_validate(tree), into=folder / "plan", probe=False).or_raise()
    settings, ready = planned.ready.settings, planned.ready
    learnt = [learnt for _, learnt in ready.lengths]
    order = [list(step.rows) for step in course_steps(settings, learnt)]
    peers: dict[str, Any] = {}
    if work.peers_epochs:
        longer = replace(settings, epochs=work.peers_epochs)
        peers["steps"] = [list(step.rows) for step in course_steps(longer, learnt)]
    if work.peers_rate:
        peers["learning_rate"] = work.peers_rate
    method = {**work.method, **start_values(ready, folder)}
    before = len(ready.method.lead(ready.facts))  # tokens of a soft prompt, which each side puts there by itself
    job = Job(
        rows=[(list(row.ids[before:]), list(row.weights[before:])) for row in ready.rows],
        steps=order,
        method=method,
        learning_rate=settings.learning_rate * method.pop("times", 1.0),
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        tree=tree,
        held_out=[(list(row.ids[before:]), list(row.weights[before:])) for row in ready.held_out if work.held_out],
        peers=peers,
    )
    job.write(folder)
    return job


def cut(source: Path, n: int, folder: Path) -> Path:
    """The first `n` rows of a file, or of raw text as much as gives some `n` pieces of 1,024 tokens."""
    into = folder / source.name
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".jsonl":
        into.write_text("".join(text.splitlines(keepends=True)[:n]), encoding="utf-8")
    else:
        into.write_text(text[: n * 3400], encoding="utf-8")
    return into


def start_values(ready: Any, folder: Path) -> dict[str, Any]:
    """Writes those of an adapter, all of them away from nothing so that each has a gradient.

    Tells what moves where there is no adapter, and how many times the run's rate a method learns at.
    """
    import torch

    from tunesmith.weights.load import load

    torch.manual_seed(0)  # an adapter's own start values are drawn too
    model = ready.method.wrap(load(folder / "model", torch.float32), ready.facts)
    if not ready.method.keeps_base:
        return {"moves": [name for name, weight in model.named_parameters() if weight.requires_grad]}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0.0, 1e-3)
    ready.method.save(model, folder / "adapter")
    path = folder / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": str(folder / "model")}))
    rates = set(ready.method.rates(model).values())  # a soft prompt's follows how large the base's own rows are
    return {"times": rates.pop()} if rates else {}


def bring(name: str, into: Path) -> None:
    """The base: a real one from the bundle, or one of a known shape with random weights."""
    if name == "smollm2-135m":
        from tunesmith.sources.bundle import Bundle

        shutil.copytree(Bundle().bring("bundle:smollm2-135m-instruct"), into)
        return
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from tunesmith.sources.bundle import Bundle

    shape = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16}
    config = Qwen3Config(**shape, num_key_value_heads=8, head_dim=128, vocab_size=151936, tie_word_embeddings=True)
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).to(torch.bfloat16).save_pretrained(into)
    for file in Bundle().bring("bundle:smollm2-135m-instruct").iterdir():
        if "token" in file.name or file.suffix == ".jinja":
            shutil.copyfile(file, into / file.name)
