from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tiny import models
from tunesmith.cli import main
from tunesmith.cli.chat import _ask
from tunesmith.errors import CannotTell, RuntimeFault

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.save(tmp_path_factory.mktemp("chat") / "tiny")


def test_one_question_gets_one_answer(model: Path, capsys: Capture) -> None:
    assert main(["chat", str(model), "--prompt", "hello", "--max-tokens", "4", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert set(tree) == {"prompt", "answer", "stopped", "prompt_tokens", "answer_tokens", "seconds"}
    assert (tree["prompt"], tree["answer_tokens"] <= 4) == ("hello", True)
    assert main(["chat", str(model), "--prompt", "hello", "--max-tokens", "4"]) == 0
    assert capsys.readouterr().out == tree["answer"] + "\n"


def test_a_question_may_come_by_a_pipe(model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    assert main(["chat", str(model), "--max-tokens", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "hello"


def test_nothing_asked_is_an_error(model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    assert main(["chat", str(model)]) == 2
    assert "error[chat/nothing-asked]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (["--runtime", "torhc"], "recipe/unknown-member", 2),
        (["--runtime", "llama_cpp"], "chat/not-exported", 1),
    ],
)
def test_a_runtime_that_cannot_answer_says_why(
    words: list[str],
    code: str,
    exit_code: int,
    model: Path,
    capsys: Capture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["chat", str(model), "--prompt", "x", *words]) == exit_code
    assert f"error[{code}]" in capsys.readouterr().err


def test_what_is_no_folder_is_refused(capsys: Capture) -> None:
    assert main(["chat", "nowhere", "--prompt", "x"]) == 1
    assert "error[artifact/missing]" in capsys.readouterr().err


@pytest.mark.slow
def test_a_conversation_at_a_terminal(model: Path, terminal: Callable[..., tuple[int, str]]) -> None:
    """Two questions, /new between them, and Ctrl-D."""
    typed = ["hello\n", "/new\n", "hello\n", "\x04"]
    code, said = terminal("chat", str(model), "--max-tokens", "4", typed=typed)
    assert code == 0
    assert "/new begins again, Ctrl-D ends" in said
    assert said.count("tokens,") == 2


def test_a_runtime_that_has_no_way_to_answer_is_an_error_with_its_reason() -> None:
    class Mute:
        def answer(self, ask: object, max_tokens: int) -> object:
            raise CannotTell("this runtime shows no answers")

    with pytest.raises(RuntimeFault, match="chat/cannot-answer") as raised:
        _ask(Mute(), "hi", 4)
    assert raised.value.faults[0].what == "this runtime shows no answers"
