"""A recipe that is filled in from the data, the base and the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny.models import save
from tiny.rows import BY_HEART, write_chats
from tunesmith.cli import main
from tunesmith.errors import DataError, Fault, PlanError, RecipeError
from tunesmith.exports.gguf import Gguf
from tunesmith.recipe import Recipe
from tunesmith.verbs.new import new
from tunesmith.verbs.plan import plan

MANY = {f"question {number}": f"answer {number}" for number in range(40)}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def texts(file: Path) -> Path:
    file.write_text("".join(json.dumps({"text": f"the quick brown fox {one}. " * 9}) + "\n" for one in range(20)))
    return file


@pytest.mark.parametrize("kind", ["messages", "rows of text", "a text"])
def test_what_it_writes_is_planned_without_a_refusal(kind: str, base: Path) -> None:
    data = Path("rows.jsonl")
    if kind == "messages":
        write_chats(data, MANY)
    elif kind == "rows of text":
        texts(data)
    else:
        data = Path("rows.txt")
        data.write_text("the quick brown fox jumps over the lazy dog\n" * 200)
    path = new("voice", base=str(base), for_=str(data))
    recipe = Recipe.read(path)
    assert recipe.data.train == str(data)
    assert recipe.objective.kind == ("sft" if kind == "messages" else "uft")
    assert recipe.method.kind == "lora"
    assert recipe.data.test == (None if kind == "a text" else 0.1)
    assert plan(recipe, probe=False).refusals == ()


def test_every_value_has_its_reason_in_a_comment_and_others_stand_beside_it(base: Path) -> None:
    write_chats(Path("rows.jsonl"))
    text = new("voice", base=str(base), for_="rows.jsonl").read_text()
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == "# voice.yaml: for rows.jsonl, 8 rows read as messages. Each value says what it follows from."
    for key in ("epochs: 10", "rank: 8", "kind: lora", "max_length: auto", "objective: sft"):
        at = lines.index(key)
        above = lines[at - 1] if lines[at - 1].startswith("#") else lines[at - 2]
        assert above.startswith("# "), key
    assert "# 8 rows are few: 80 looks at one, in at most 10 passes" in lines
    assert "# too few rows to hold some out; name a file of others" in lines
    assert any(line.startswith("# method: full ") for line in lines)
    assert "auto, here 10" not in text


@pytest.mark.parametrize(
    ("train", "test"),
    [("voice-train.jsonl", "voice-test.jsonl"), ("voice.jsonl", "voice-test.jsonl"), ("a.jsonl", "test.jsonl")],
)
def test_a_file_of_test_rows_beside_the_data_is_found(train: str, test: str, base: Path) -> None:
    write_chats(Path(train), MANY)
    write_chats(Path(test), BY_HEART)
    recipe = Recipe.read(new("r", base=str(base), for_=train))
    assert recipe.data.test == test
    planned = plan(recipe, probe=False)
    assert planned.refusals == ()
    assert len(planned.ready.held_out) == len(BY_HEART)


def test_an_export_that_is_not_possible_here_is_left_out_with_the_reason(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = Fault("export/no-converter", "llama.cpp's converter is not installed", fix="pip install it")
    monkeypatch.setattr(Gguf, "refuse", lambda self, facts, machine: [refusal])
    write_chats(Path("rows.jsonl"), MANY)
    path = new("voice", base=str(base), for_="rows.jsonl")
    assert [one.kind for one in Recipe.read(path).export] == ["web"]
    text = path.read_text()
    assert "# gguf is left out: llama.cpp's converter is not installed; pip install it" in text
    assert "# ollama is left out: it is made from gguf" in text


def test_faults_of_the_data_are_told_and_nothing_is_written(base: Path) -> None:
    Path("rows.jsonl").write_text('{"messages": [{"role": "user", "content": "hi"}]}\nnot json\n')
    with pytest.raises(DataError) as error:
        new("voice", base=str(base), for_="rows.jsonl")
    assert len(error.value.faults) == 2
    with pytest.raises(DataError):
        new("voice", base=str(base), for_="none.jsonl")
    assert not Path("voice.yaml").exists()


def test_a_base_that_is_not_there_is_told(tmp_path: Path) -> None:
    write_chats(Path("rows.jsonl"))
    with pytest.raises(PlanError) as error:
        new("voice", base=str(tmp_path / "nowhere"), for_="rows.jsonl")
    assert error.value.faults[0].code.startswith("source/")


def test_the_rows_are_named_once(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_chats(Path("rows.jsonl"))
    assert main(["new", "voice", "--for", "rows.jsonl", "--data", "other.jsonl"]) == 2
    assert "error[recipe/data-twice]" in capsys.readouterr().err
    assert main(["new", "voice", "--for", "rows.jsonl", "--base", str(base), "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("wrote voice.yaml\nnext: tunesmith inspect rows.jsonl, ")


def test_a_recipe_that_is_there_is_not_overwritten_and_no_row_is_read(base: Path) -> None:
    Path("voice.yaml").write_text("mine")
    with pytest.raises(RecipeError) as error:
        new("voice", base=str(base), for_="none.jsonl")
    assert error.value.faults[0].code == "recipe/exists"
