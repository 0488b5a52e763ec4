"""What the README says to type does what it says beside it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from tiny.models import CHATML, save
from tiny.rows import write_chats
from tunesmith import rooms
from tunesmith.cli import main
from tunesmith.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def section(head: str) -> str:
    return README.partition(f"\n## {head}\n")[2].partition("\n## ")[0]


def commands(text: str) -> list[list[str]]:
    """The words of each `$ tunesmith` line, without what stands behind them as a comment."""
    block = text.partition("```console\n")[2].partition("```")[0]
    return [shlex.split(line.removeprefix("$ tunesmith"), comments=True) for line in block.splitlines()]


def test_your_own_data_from_the_first_line_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a tiny base and without the slow exports, every word else as it is written."""
    monkeypatch.chdir(tmp_path)
    base = save(tmp_path / "base", template=CHATML)
    write_chats(Path("chats.jsonl"))
    written = commands(section("Your own data"))
    assert [words[0] for words in written] == ["new", "inspect", "plan", "run", "chat", "serve"]
    quick = [f"base={base}", "data.test=null", "run.epochs=1", "export=[gguf]"]
    more = {"plan": [f"--set={one}" for one in quick], "chat": ["--prompt", "hi", "--max-tokens", "2"]}
    more |= {"run": more["plan"], "new": ["--base", str(base)]}
    for words in written[:-1]:
        assert main([*words, *more.get(words[0], ())]) == 0, capsys.readouterr()
    assert {words[1] for words in written[-2:]} == {"runs/voice"}
    assert [path.name for path in Path("runs").iterdir() if not path.name.startswith(".")] == ["voice"]


def test_its_python_is_the_classic_recipe_in_fewer_than_ten_lines() -> None:
    code = README.partition("```python\n")[2].partition("```")[0]
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) < 10
    assert lines[-1] == "print(run(recipe).ok)"
    names: dict[str, Any] = {}
    exec("\n".join(lines[:-1]), names)
    assert names["recipe"] == Recipe.read(ROOT / "recipes" / "mistral-7b-lora.yaml")


def test_the_table_of_methods_says_what_each_method_says_itself() -> None:
    rows = [line.strip("| ").split(" | ") for line in section("Where a method can go").splitlines() if line[:1] == "|"]
    said = {name: dict(zip(("gguf", "ollama", "web"), cells[1:], strict=True)) for name, *cells in rows[2:]}
    assert set(said) == set(rooms.names("methods"))
    for name, cells in said.items():
        delivers = rooms.find("methods", name)().delivers(None)
        assert {export: cell.partition(":")[0] for export, cell in cells.items()} == {
            export: delivers[export].kind for export in cells
        }
