"""Rows that are learnt without the system prompt that they begin with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny.models import save
from tiny.rows import BY_HEART
from tunesmith import say
from tunesmith.recipe import Recipe
from tunesmith.text.example import Example
from tunesmith.text.template import Text
from tunesmith.verbs._ready import Ready, make_ready
from tunesmith.verbs.new import new

LONG = "Answer with one of these: " + "fox, dog, hen, " * 20


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"))


def write(file: Path, systems: tuple[str, ...] = (LONG,)) -> Path:
    """Each row behind each of the system prompts."""
    rows = [
        [
            *([{"role": "system", "content": system}] if system else []),
            {"role": "user", "content": ask},
            {"role": "assistant", "content": answer},
        ]
        for ask, answer in BY_HEART.items()
        for system in systems
    ]
    file.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows), encoding="utf-8")
    return file


def ready(
    base: Path, folder: Path, train: Path, test: Path | float | None = None, system_prompt: str = "drop"
) -> Ready:
    data = {"train": str(train), "test": str(test) if isinstance(test, Path) else test, "system_prompt": system_prompt}
    return make_ready(Recipe.model_validate({"base": str(base), "data": data}), folder / "run")


def test_what_is_learnt_and_held_out_is_the_row_without_it(base: Path, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl")
    test = tmp_path / "test.jsonl"
    test.write_text(rows.read_text().replace("the", "a"))
    text = Text.read(base)
    chats = [
        [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}] for ask, answer in BY_HEART.items()
    ]
    wanted = sorted(tuple(text.encode(text.render(chat).rstrip())) for chat in chats)
    dropped, kept = (ready(base, tmp_path, rows, test, choice) for choice in ("drop", "keep"))
    assert sorted(row.ids for row in dropped.rows) == wanted
    assert all("Answer with one of" not in text.decode(row.ids) for row in dropped.held_out)
    assert all("Answer with one of" in text.decode(row.ids) for row in (*kept.rows, *kept.held_out))
    (said,) = (one for one in dropped.values if one.name == "system_prompt")
    assert said.value == "dropped from 8 of 8 rows"
    with_it, without = ([len(row.ids) for row in one.rows] for one in (kept, dropped))
    assert said.why.endswith(f"; {sum(with_it) / 8 - sum(without) / 8:,.0f} tokens fewer a row")
    assert not any(one.name == "system_prompt" for one in kept.values)


def test_rows_that_are_one_without_it_stay_on_one_side(base: Path, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", (LONG, "Be short.", ""))
    parted = ready(base, tmp_path, rows, 0.25)
    assert (len(parted.rows), len(parted.held_out)) == (18, 6)
    assert not {row.ids for row in parted.rows} & {row.ids for row in parted.held_out}
    leaked = ready(base, tmp_path, write(tmp_path / "a.jsonl"), write(tmp_path / "b.jsonl", ("Be short.",)))
    assert [fault.code for fault in leaked.refusals] == ["plan/test-is-train"]


def test_where_no_row_has_one_that_is_said(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(say, "warn", heard.append)
    ready(base, tmp_path, write(tmp_path / "rows.jsonl", ("",)))
    assert ["nothing is dropped" in one for one in heard] == [True]


def row(*turns: tuple[str, str]) -> str:
    return json.dumps({"messages": [{"role": role, "content": said} for role, said in turns]}) + "\n"


def test_questions_that_only_the_system_prompt_told_apart_are_warned_of(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    monkeypatch.setattr(say, "warn", heard.append)
    said = [("English", "the fox", "fox"), ("French", "the fox", "renard"), ("French", "the dog", "chien")]
    # A question with two answers behind the same prompt contradicts itself with the prompt and without.
    said += [("English", "the hen", "hen"), ("English", "the hen", "bird"), ("French", "the cow", "vache")]
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(row(("system", one), ("user", ask), ("assistant", answer)) for one, ask, answer in said))
    ready(base, tmp_path, rows)
    assert [one.partition(" behind")[0] for one in heard] == ["1 questions have another answer"]
    heard.clear()
    ready(base, tmp_path, rows, system_prompt="keep")
    assert not heard


def test_a_row_that_asks_only_in_its_system_prompt_is_refused(base: Path, tmp_path: Path) -> None:
    rows, test = tmp_path / "rows.jsonl", tmp_path / "test.jsonl"
    alone = row(("system", "Greet."), ("assistant", "hello"))
    rows.write_text(row(("system", "Greet."), ("user", "me"), ("assistant", "hello")) * 3 + alone)
    test.write_text(alone.replace("hello", "good day"))
    (fault,) = ready(base, tmp_path, rows, test).refusals
    assert (fault.code, fault.file, fault.line) == ("plan/only-a-system-prompt", str(rows), 4)
    assert fault.what.startswith("2 rows ask nothing")
    assert not ready(base, tmp_path, rows, system_prompt="keep").refusals


def test_what_is_wrong_with_a_row_is_found_where_it_stands_in_the_file(base: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(row(("system", "Greet."), ("user", "me"), ("assistant", "he<|im_end|>llo")))
    (fault,) = (one for one in ready(base, tmp_path, rows).refusals if one.code == "objective/end-token-inside")
    assert fault.key == "messages[2]"


def test_an_answer_that_opens_a_conversation_is_not_learnt() -> None:
    turns = tuple({"role": role, "content": role} for role in ("system", "assistant", "user", "assistant"))
    assert Example(turns, (False, True, False, True)).without_system().learn == (False, False, True)


def test_only_what_stands_first_is_dropped() -> None:
    turns = tuple({"role": role, "content": role} for role in ("system", "developer", "user", "assistant", "system"))
    example = Example(turns, (False, False, False, True, False), file="a", line=3)
    assert example.without_system() == Example(turns[2:], (False, True, False), file="a", line=3)
    assert example.without_system().without_system() == example.without_system()
    assert Example(text="raw").without_system() == Example(text="raw")


def test_it_makes_another_run_and_keeping_it_makes_none() -> None:
    def hashed(data: str) -> str:
        return Recipe.from_text(f"base: b\ndata: {{train: t{data}}}").learning_hash()

    assert hashed(", system_prompt: keep") == hashed("") != hashed(", system_prompt: drop")
    dropped = Recipe.from_text("base: b\ndata: {train: t, system_prompt: drop}")
    assert Recipe.from_text(dropped.as_yaml()) == dropped


def test_a_new_recipe_names_it_where_all_rows_begin_alike(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    alike = new("alike", base=str(base), for_=str(write(tmp_path / "alike.jsonl"))).read_text()
    assert "  # all rows begin with one system prompt of 65 words; drop: " in alike
    assert Recipe.read(Path("alike.yaml")).data.system_prompt == "keep"
    several = new("several", base=str(base), for_=str(write(tmp_path / "several.jsonl", ("One.", "Two.")))).read_text()
    assert "system_prompt" not in several
