"""What is asked for in a blink loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

LEARNING = ("torch", "transformers", "peft", "accelerate", "tokenizers", "numpy")
HEAVY = (*LEARNING, "onnx", "onnxruntime", "xllamacpp", "ollama", "pyarrow")


def modules_after(code: str, folder: Path) -> set[str]:
    script = f"{code}\nimport sys, json; sys.stderr.write('\\n' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    ("code", "too_heavy"),
    [
        ("import tunesmith", (*HEAVY, "pydantic", "rich", "cyclopts")),
        ("import tunesmith.cli", (*HEAVY, "pydantic", "rich", "cyclopts")),
        ("import tunesmith.cli; tunesmith.cli.main(['--help'])", (*HEAVY, "pydantic", "rich", "cyclopts")),
        ("import tunesmith.cli; tunesmith.cli.main(['--version'])", (*HEAVY, "pydantic", "rich", "cyclopts")),
        ("import tunesmith.cli; tunesmith.cli.main(['lst'])", (*HEAVY, "pydantic", "cyclopts")),
        ("import tunesmith.cli; tunesmith.cli.main(['tune', '--help'])", HEAVY),
        ("from tunesmith import Recipe, Run, Lora, plan, tune, export, check, prove, chat, run, inspect", HEAVY),
        ("import tunesmith.cli; tunesmith.cli.main(['list', '--json'])", HEAVY),
        ("import tunesmith.cli; tunesmith.cli.main(['show', 'lora', '--json'])", HEAVY),
        ("import tunesmith.cli; tunesmith.cli.main(['new', 'voice', '--json'])", HEAVY),
    ],
)
def test_it_loads_nothing_heavy(code: str, too_heavy: tuple[str, ...], tmp_path: Path) -> None:
    loaded = modules_after(code, tmp_path)
    assert "tunesmith" in loaded
    assert sorted(loaded & set(too_heavy)) == []


def test_every_part_of_recipe_and_ground_loads_without_torch(tmp_path: Path) -> None:
    names = ("recipe", "artifact", "machine", "rooms", "errors", "files", "say", "changes", "yaml12", "recipe_faults")
    loaded = modules_after("; ".join(f"import tunesmith.{name}" for name in names), tmp_path)
    assert {f"tunesmith.{name}" for name in names} <= loaded
    assert sorted(loaded & set(HEAVY)) == []


def test_a_model_without_adapters_learns_without_peft(tmp_path: Path) -> None:
    """Which would load bitsandbytes, and with it torch's compiler."""
    learns = "with lean_layers(torch.nn.Sequential(torch.nn.Linear(2, 2)), torch.float32): pass"
    code = f"import torch; from tunesmith.learn.lean_layers import lean_layers\n{learns}"
    loaded = modules_after(code, tmp_path)
    assert "tunesmith.learn.lean_update" in loaded
    assert sorted(loaded & {"peft", "bitsandbytes", "torch._inductor"}) == []


def test_the_front_page_answers_in_a_blink(tmp_path: Path) -> None:
    """Below 0.3 s beyond an empty Python, the best of five: a busy machine is not our fault."""

    def seconds(*words: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, *words], capture_output=True, cwd=tmp_path, check=True)
        return time.perf_counter() - began

    empty = min(seconds("-c", "pass") for _ in range(5))
    assert min(seconds("-m", "tunesmith", "--help") for _ in range(5)) - empty < 0.3


def test_every_verb_of_the_command_line_is_one_in_python_too() -> None:
    import tunesmith
    from tunesmith.cli.front import VERBS

    assert len(VERBS) == 14
    assert [verb for verb in VERBS if not callable(getattr(tunesmith, {"list": "list_members"}.get(verb, verb)))] == []
