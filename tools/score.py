"""How many answers are exactly right, where an answer is JSON: `python tools/score.py MODEL TEST.jsonl`.

MODEL is a run, a model folder, or a base such as bundle:smollm2-135m-instruct. Each chat of the file is asked up to its
last turn, greedily in torch, and that turn is what is right. Two answers are one when they are the same JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BATCH = 32


def main() -> None:
    """Print `right of n`."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("model")
    words.add_argument("test", type=Path)
    words.add_argument("--max-tokens", type=int, default=160)
    asked = words.parse_args()
    lines = asked.test.read_text(encoding="utf-8").splitlines()
    chats = [json.loads(line)["messages"] for line in lines if line.strip()]
    said = answers(folder_of(asked.model), [chat[:-1] for chat in chats], asked.max_tokens)
    right = sum(same_json(one, chat[-1]["content"]) for one, chat in zip(said, chats, strict=True))
    print(f"{right} of {len(chats)}")


def folder_of(model: str) -> Path:
    """Where the weights stand."""
    from tunesmith.artifact import Run
    from tunesmith.sources._find import source_of

    if (Path(model) / "manifest.json").is_file():
        return Run(Path(model)).model.folder
    return source_of(model).bring(model)


def answers(folder: Path, asks: Sequence[list[dict[str, str]]], max_tokens: int) -> list[str]:
    """The greedy answers, in the order of the asks; those of about one length are asked at once."""
    import torch
    from transformers import AutoTokenizer

    from tunesmith.weights.load import load

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model: Any = load(folder).to(device)  # type: ignore[arg-type]
    texts = [tokenizer.apply_chat_template(ask, tokenize=False, add_generation_prompt=True) for ask in asks]
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    said = [""] * len(texts)
    for first in range(0, len(order), BATCH):
        places = order[first : first + BATCH]
        batch = tokenizer(
            [texts[place] for place in places], return_tensors="pt", padding=True, add_special_tokens=False
        ).to(device)
        with torch.inference_mode():
            ids = model.generate(
                **batch, max_new_tokens=max_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
        for place, answer in zip(places, ids[:, batch["input_ids"].shape[1] :], strict=True):
            said[place] = tokenizer.decode(answer, skip_special_tokens=True)
    return said


def same_json(said: str, right: str) -> bool:
    """Whether both are JSON, and the same: spaces and the order of keys play no part."""
    return _read(said) == _read(right) is not None


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


if __name__ == "__main__":
    main()
