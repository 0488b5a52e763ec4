"""tools/score.py counts what is exactly right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tiny.learnt import ANSWERS

ROOT = Path(__file__).resolve().parent.parent.parent


def score(model: Path, rows: dict[str, str], into: Path) -> str:
    chats = [[{"role": "user", "content": ask}, {"role": "assistant", "content": said}] for ask, said in rows.items()]
    into.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    command = [sys.executable, ROOT / "tools" / "score.py", model, into, "--max-tokens", "24"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_json_is_compared_and_not_its_spelling() -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    from score import same_json

    assert same_json('{"a": 1, "b": [2]}', ' {"b":[2],\n"a":1}')
    assert not same_json('{"a": 1}', '{"a": 2}')
    assert not same_json("no JSON", "no JSON")
    assert not same_json('{"a": 1} and more', '{"a": 1}')


@pytest.mark.slow
def test_right_answers_are_counted_in_a_batch_of_several_lengths(learnt_model: Path, tmp_path: Path) -> None:
    """The tiny model knows all of them by heart, and two of the four are JSON."""
    assert score(learnt_model, ANSWERS, tmp_path / "test.jsonl") == "2 of 4"
    swapped = dict(zip(ANSWERS, reversed(ANSWERS.values()), strict=True))
    assert score(learnt_model, swapped, tmp_path / "test.jsonl") == "0 of 4"
