from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny.models import save
from tunesmith.errors import PlanError, RecipeError
from tunesmith.verbs.inspect import inspect

GOOD = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hello, please!"}]}
BAD = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save(tmp_path_factory.mktemp("model")))


def written(folder: Path, *rows: object) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_without_a_model_rows_and_faults_are_told_and_no_tokens(tmp_path: Path) -> None:
    data = written(tmp_path, GOOD, BAD)
    found = inspect(data).as_json()
    assert {key: found[key] for key in ("format", "rows", "usable", "tokens")} == {
        "format": "messages",
        "rows": 2,
        "usable": 1,
        "tokens": None,
    }
    (fault,) = found["faults"]
    assert set(fault) == {"code", "file", "line", "key", "what", "fix"}
    assert (fault["code"], fault["file"], fault["line"]) == ("data/no-assistant", data, 2)


def test_with_a_model_what_is_learnt_is_shown_token_by_token(tmp_path: Path, model: str) -> None:
    found = inspect(written(tmp_path, GOOD, GOOD), model=model)
    prompt, answer = found.shown[0].pieces
    assert prompt == (
        "<|im_start|>system\nYou are tiny.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n",
        False,
    )
    assert answer == ("Hello, please!<|im_end|>", True)
    assert found.n_usable == len(found.shown) == 2
    assert found.n_learnt_tokens
    assert found.as_json()["tokens"] == {"prompt": found.n_prompt_tokens, "learnt": found.n_learnt_tokens}


def test_rows_longer_than_the_limit_are_not_usable(tmp_path: Path, model: str) -> None:
    found = inspect(written(tmp_path, GOOD), model=model, max_length=5)
    assert found.n_usable == 0
    assert found.faults[0].code == "data/too-long"


@pytest.mark.parametrize(("sample", "found_at"), [(None, [1, 3]), (2, [1]), (3, [1, 3])])
def test_rows_that_are_held_out_are_tokenized_too(
    tmp_path: Path, model: str, sample: int | None, found_at: list[int]
) -> None:
    """A plan refuses them for what only tokens show: they are told here, and count for nothing else."""
    longer = {"messages": [{"role": "user", "content": "hello " * 90}, {"role": "assistant", "content": "Hello!"}]}
    (tmp_path / "test").mkdir()
    test = written(tmp_path / "test", longer, GOOD, longer)
    found = inspect(written(tmp_path, GOOD, GOOD, GOOD), model=model, test=test, sample=sample, max_length=60)
    assert [(one.code, one.file, one.line) for one in found.faults] == [("data/too-long", test, n) for n in found_at]
    assert (found.n_rows, found.n_usable, found.n_test_rows) == (3, 3, 3)
    assert found.learnt is not None
    assert found.learnt.long.n_refused == 0


def test_raw_text_is_learnt_whole(tmp_path: Path, model: str) -> None:
    found = inspect(written(tmp_path, {"text": "a tale"}), model=model)
    assert "".join(text for text, _ in found.shown[0].pieces) == "a tale<|im_end|>"
    assert found.n_prompt_tokens == 1


def test_a_row_in_parts_is_named_by_its_line_and_part(tmp_path: Path, model: str) -> None:
    data = written(tmp_path, {"text": "a"}, {"text": "the quick brown fox " * 30})
    found = inspect(data, model=model, max_length=100)
    assert [one.where for one in found.shown[:2]] == [
        f"{data}, line 1",
        f"{data}, line 2, part 1 of {found.shown[1].parts}",
    ]
    assert found.shown[1].parts > 1
    assert found.n_usable == 2


@pytest.mark.parametrize("length", [0, -3])
def test_a_limit_below_one_is_refused(tmp_path: Path, model: str, length: int) -> None:
    with pytest.raises(RecipeError, match="inspect/max-length"):
        inspect(written(tmp_path, GOOD), model=model, max_length=length)


def test_a_limit_beyond_the_model_is_refused_as_in_a_plan(tmp_path: Path, model: str) -> None:
    with pytest.raises(PlanError, match="plan/too-long"):
        inspect(written(tmp_path, GOOD), model=model, max_length=10**6)
