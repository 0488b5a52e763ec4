"""A tiny model that has learnt a few ASCII answers by heart, so that it answers, and ends, like a tuned one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tiny.models import save

ANSWERS = {
    "What is the capital of France?": "Paris.",
    "Say hello.": "hello, please!",
    "a red fox": '{"color": "red", "size": "small"}',
    "the lazy dog": '{"color": "brown", "count": 3}',
}


def save_learnt(
    folder: Path,
    family: str = "llama",
    n_steps: int = 60,
    answers: Mapping[str, str] = ANSWERS,
    **changes: object,
) -> Path:
    """The folder of a model that answers `ANSWERS` or others; trained here by plain torch in a few seconds."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    save(folder, family, **changes)
    model, words = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = []
    for question, answer in answers.items():
        ask = words.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
        )
        start = words(ask)["input_ids"]
        end = words(answer + "<|im_end|>")["input_ids"]
        rows.append((torch.tensor([start + end]), torch.tensor([[-100] * len(start) + end])))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    model.train()
    for _ in range(n_steps):
        loss = sum(model(ids, labels=labels).loss for ids, labels in rows) / len(rows)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.1, f"{family} did not learn: {loss.item()}"
    model.eval().save_pretrained(folder)
    return folder
