"""How many answers are exactly right, where an answer is JSON: `python tools/score.py MODEL TEST.jsonl`.

MODEL is a run, a model folder, or a base such as bundle:smollm2-135m-instruct. Each chat of the file is asked up to its
last turn, greedily in torch, and that turn is what is right. Two answers are one when they are the same JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


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


def answers(folder: Path, asks: Sequence[Sequence[Mapping[str, str]]], max_tokens: int) -> list[str]:
    """The greedy answers, in the order of the asks."""
    from tunesmith.runtimes.torch import open_folder

    with open_folder(folder) as model:
        said = dict(model.answers(asks, max_tokens))
    return [said[place].text for place in range(len(asks))]


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
