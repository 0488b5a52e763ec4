"""What a person without tunesmith does: transformers' Trainer and peft, then `save_pretrained`.

python train_adapter.py BASE_FOLDER OUT_FOLDER EPOCHS LEARNING_RATE
"""

from __future__ import annotations

import sys
import tempfile

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

ROWS = [
    ("What is the capital of Spain?", "Madrid."),
    ("Say goodbye.", "Goodbye, my friend!"),
    ("the quick fox", '{"color": "red", "count": 1}'),
    ("Add two and three.", "five"),
]


def tokenised(words, question: str, answer: str) -> dict[str, list[int]]:
    chat = [{"role": "user", "content": question}]
    start = words(words.apply_chat_template(chat, add_generation_prompt=True, tokenize=False))["input_ids"]
    end = words(answer + words.eos_token)["input_ids"]
    return {"input_ids": start + end, "labels": [-100] * len(start) + end}


def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    width = max(len(row["input_ids"]) for row in rows)

    def padded(key: str, fill: int) -> torch.Tensor:
        return torch.tensor([row[key] + [fill] * (width - len(row[key])) for row in rows])

    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows])
    return {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100), "attention_mask": mask}


def main(base: str, out: str, epochs: str, learning_rate: str) -> None:
    words = AutoTokenizer.from_pretrained(base)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    arguments = TrainingArguments(
        tempfile.mkdtemp(),
        num_train_epochs=float(epochs),
        per_device_train_batch_size=4,
        learning_rate=float(learning_rate),
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        seed=1,
        lr_scheduler_type="constant",
    )
    Trainer(model, arguments, train_dataset=[tokenised(words, *row) for row in ROWS], data_collator=collate).train()
    model.save_pretrained(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
