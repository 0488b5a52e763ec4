"""Rows to learn from, for tests of learning: random ones, and eight that a tiny model can learn by heart."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from tunesmith.text.example import Tokens

BY_HEART = {
    "red": "fox",
    "blue": "dog",
    "one": "two",
    "hello": "please",
    "Paris": "France",
    "add": "three",
    "size": "small",
    "color": "brown",
}

SHOP = {
    "two red socks": '{"item": "socks", "color": "red", "count": 2}',
    "a blue hat": '{"item": "hat", "color": "blue", "count": 1}',
    "three green ties": '{"item": "ties", "color": "green", "count": 3}',
    "Say hello.": "hello, please!",
    "What is the capital of France?": "Paris.",
    "Add two and three.": "five.",
}
"""Chats for bases of some million weights, which tell JSON from words."""


def random_rows(lengths: Sequence[int], seed: int = 0, share: float = 0.5) -> list[Tokens]:
    """Rows of these lengths, of ids below 200, about `share` of which are learnt."""
    drawn = random.Random(seed)
    return [
        Tokens(
            tuple(drawn.randrange(3, 200) for _ in range(length)),
            tuple(float(drawn.random() < share) for _ in range(length)),
        )
        for length in lengths
    ]


def write_chats(file: Path, pairs: dict[str, str] | None = None) -> Path:
    """A file of questions and answers, as messages."""
    told = pairs or BY_HEART
    rows = [
        {"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]}
        for ask, answer in told.items()
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file
