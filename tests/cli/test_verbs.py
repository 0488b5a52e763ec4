from __future__ import annotations

import json
import re
import shlex
import textwrap
from pathlib import Path

import pytest

from tunesmith.cli import main
from tunesmith.recipe import Recipe

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_new_writes_a_recipe_that_can_be_read_and_says_what_is_next(capsys: Capture) -> None:
    assert main(["new", "voice", "--data", "chats.jsonl"]) == 0
    assert capsys.readouterr().out == (
        "wrote voice.yaml\nnext: tunesmith inspect chats.jsonl, tunesmith plan voice.yaml, tunesmith run voice.yaml\n"
    )
    recipe = Recipe.read("voice.yaml")
    assert recipe.data.train == "chats.jsonl"
    assert recipe.base == "bundle:smollm2-135m-instruct"
    assert [one.kind for one in recipe.export] == ["gguf", "ollama", "web"]


@pytest.mark.parametrize("word", ["a: b", "no", "12", "it's #1", "é", "C:\\x", "'"])
def test_new_writes_any_base_and_data_so_that_they_are_read_back(word: str) -> None:
    assert main(["new", "r.yaml", "--base", word, "--data", word]) == 0
    recipe = Recipe.read("r.yaml")
    assert (recipe.base, recipe.data.train) == (word, word)


def test_new_never_overwrites(capsys: Capture) -> None:
    Path("voice.yaml").write_text("mine")
    assert main(["new", "voice"]) == 2
    assert "error[recipe/exists]" in capsys.readouterr().err
    assert Path("voice.yaml").read_text() == "mine"


@pytest.mark.parametrize("name", ["-x/..", "a b", "", ".hidden"])
def test_new_refuses_names_that_are_no_file_names(name: str, capsys: Capture) -> None:
    assert main(["new", "--", name]) == 2
    assert "error[recipe/bad-name]" in capsys.readouterr().err
    assert list(Path.cwd().iterdir()) == []


def test_list_names_every_member_with_its_options(capsys: Capture) -> None:
    from tunesmith import rooms

    assert main(["list", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert {room: [one["name"] for one in members] for room, members in tree.items()} == {
        room: list(table) for room, table in rooms.ROOMS.items()
    }
    n_options = 0
    for room, members in tree.items():
        for member in members:
            reaches = {"delivers"} if room == "methods" else set()
            assert set(member) == {"name", "summary", "options"} | reaches
            assert set(member.get("delivers", rooms.ROOMS["exports"])) == set(rooms.ROOMS["exports"])
            assert member["summary"]
            for option in member["options"]:
                assert set(option) == {"name", "type", "default", "text"}
                assert all(option.values()), (member["name"], option)
                assert re.fullmatch(r"[a-z0-9_ <>=.-]+", option["type"]), (member["name"], option)
                n_options += 1
    assert n_options >= 8


def test_list_paints_what_it_gives_programs(capsys: Capture) -> None:
    assert main(["list", "methods"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("methods  Which weights move")
    assert "lora" in out
    assert "rank" in out


def test_show_gives_the_options_in_the_words_of_a_recipe(capsys: Capture) -> None:
    assert main(["show", "methods/lora", "--json"]) == 0
    (member,) = json.loads(capsys.readouterr().out)["methods"]
    rank = next(option for option in member["options"] if option["name"] == "rank")
    assert (rank["type"], rank["default"]) == ("integer > 0 or auto", "16")


def test_show_gives_all_members_of_a_shared_name_and_one_with_its_room(capsys: Capture) -> None:
    assert main(["show", "ollama", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"exports", "runtimes"}
    assert main(["show", "runtimes/ollama", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"runtimes"}
    assert main(["show", "methods/ollama"]) == 2


def test_doctor_says_what_is_here_and_how_to_get_the_rest(capsys: Capture) -> None:
    assert main(["doctor", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    parts = {part["name"]: part for part in tree["parts"]}
    assert tree["ok"] is True
    assert {"python", "cores", "memory", "disk", "gpu", "torch", "transformers", "xllamacpp", "onnx", "ollama"} <= set(
        parts
    )
    assert {"node", "chromium", "llama.cpp converter"} <= set(parts)
    for part in parts.values():
        assert part["found"]
        assert part["here"] or part["get"], part
    assert parts["torch"]["group"] == "core"
    assert parts["xllamacpp"]["group"] == "extra gguf"


def test_doctor_names_a_missing_package_with_its_extra(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    import importlib.metadata

    real = importlib.metadata.version

    def without(name: str) -> str:
        if name in ("onnx", "torch"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    assert main(["doctor", "--json"]) == 1
    parts = {part["name"]: part for part in json.loads(capsys.readouterr().out)["parts"]}
    assert (parts["onnx"]["here"], parts["onnx"]["get"]) == (False, 'pip install "tunesmith[web]"')
    assert parts["torch"]["get"].startswith('pip install "torch>=')


def test_doctor_finds_no_server_where_nobody_listens(capsys: Capture) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.split()[:2] == ["no", "ollama"]]
    told = " ".join(" ".join(lines[lines.index(line) :]).split())  # wherever a narrow terminal breaks it
    assert "ollama serve (for: export ollama)" in told


def test_inspect_names_faults_and_ends_with_1(capsys: Capture) -> None:
    Path("a.jsonl").write_text('{"messages": [{"role": "user", "content": "hi"}]}\nnot json\n')
    assert main(["inspect", "a.jsonl", "--json"]) == 1
    tree = json.loads(capsys.readouterr().out)
    assert {"format", "rows", "usable", "tokens", "faults", "faults_total", "groups", "numbers", "risks"} <= set(tree)
    assert {fault["line"] for fault in tree["faults"]} == {1, 2}
    assert main(["inspect", "a.jsonl"]) == 1
    out = capsys.readouterr().out
    assert "a.jsonl, line 2" in out
    assert "0 can be learnt from" in out


def test_inspect_marks_what_is_learnt(capsys: Capture) -> None:
    Path("a.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}\n'
    )
    assert main(["inspect", "a.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "user: hi" in out
    assert "[[ho" in out


def test_inspect_shows_the_beginning_of_a_long_text_and_no_control_characters(capsys: Capture) -> None:
    Path("a.txt").write_text("one\x1b[2Jline\n" * 1000)
    assert main(["inspect", "a.txt"]) == 0
    out = capsys.readouterr().out
    assert "a.txt, line 1, as it is learnt from" in out
    assert out.count("one\\x1b[2Jline\n") == 40
    assert "\x1b" not in out
    assert "characters more" in out


def test_data_that_is_not_there_is_an_error_of_the_data(capsys: Capture) -> None:
    assert main(["inspect", "none.jsonl"]) == 1
    captured = capsys.readouterr()
    assert "none.jsonl" in captured.err + captured.out


@pytest.mark.parametrize("verb", ["new", "list", "show", "inspect"])
def test_the_example_of_the_help_is_what_the_verb_prints(
    verb: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    chats = [
        [{"role": "user", "content": "play some jazz"}, {"role": "assistant", "content": '{"intent": "PlayMusic"}'}],
        [{"role": "user", "content": "hi"}],
    ]
    Path("chats.jsonl").write_text("".join(json.dumps({"messages": one}) + "\n" for one in chats))
    monkeypatch.setenv("COLUMNS", "96")
    main([verb, "--help"])
    example = capsys.readouterr().out.partition("\nExample:\n")[2]
    command, _, told = textwrap.dedent(example).partition("\n")
    main(shlex.split(command.removeprefix("$ tunesmith ")))
    assert capsys.readouterr().out.strip() == told.strip()
