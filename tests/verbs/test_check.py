"""The parity table: what is asked, what is kept, and what goes wrong in a runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import needs
from tiny.learnt import save_learnt
from tunesmith.artifact import Run
from tunesmith.errors import ArtifactError
from tunesmith.exports.gguf import Gguf
from tunesmith.exports.ollama import Ollama
from tunesmith.ollama_server import Server
from tunesmith.verbs._held_out import held_out_asks, held_out_rows, parted
from tunesmith.verbs.check import Checked, check
from tunesmith.verbs.export import export

RECIPE = "base: x\ndata: {{train: {train}, format: messages}}\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_learnt(tmp_path_factory.mktemp("checked") / "model")


def _verdicts(checked: Checked, runtime: str) -> set[str]:
    return {one.verdict for one in checked.findings if one.runtime == runtime}


def _rows(folder: Path) -> set[str]:
    return {one["runtime"] for one in json.loads((folder / "checks.json").read_text())["findings"]}


def test_a_runtime_that_runs_none_of_the_exports_is_a_fault_and_leaves_the_table(model: Path, tmp_path: Path) -> None:
    export(model, to=["safetensors"], into=tmp_path)
    assert check(model, into=tmp_path).ok
    before = (tmp_path / "checks.json").read_bytes()
    with pytest.raises(ArtifactError) as caught:
        check(model, runtimes=["llama_cpp"], into=tmp_path)
    (fault,) = caught.value.faults
    assert fault.code == "check/nothing-to-check"
    assert "torch" in fault.fix
    assert (tmp_path / "checks.json").read_bytes() == before


def test_one_runtime_is_asked_and_the_rows_of_the_others_stay(model: Path, tmp_path: Path) -> None:
    export(model, to=["safetensors", Gguf(types=("f32",))], into=tmp_path)
    gguf = tmp_path / "exports" / "gguf" / "model-f32.gguf"
    whole = gguf.read_bytes()
    gguf.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
    assert not check(model, into=tmp_path).ok
    assert _rows(tmp_path) == {"llama_cpp", "torch"}
    alone = check(model, runtimes=["torch"], into=tmp_path)
    assert alone.ok
    assert {one.runtime for one in alone.findings} == {"torch"}
    assert _rows(tmp_path) == {"llama_cpp", "torch"}
    assert json.loads((tmp_path / "checks.json").read_text())["ok"] is False
    gguf.write_bytes(whole)
    mended = check(model, into=tmp_path)
    assert (mended.ok, mended.kept) == (True, False)
    assert check(model, into=tmp_path).kept


def test_the_table_follows_the_server_and_what_it_holds(
    model: Path, tmp_path: Path, ollama_server: needs.OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    into = tmp_path / "followed"
    made = export(model, to=[Gguf(types=("f32",)), Ollama(create=False)], into=into)["ollama"]
    name = f"{made.about['model']}:latest"
    asked: dict[str, Any] = {"runtimes": ["ollama"], "into": into}
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    assert _verdicts(check(model, **asked), "ollama") == {"cannot_tell"}
    assert check(model, **asked).kept
    monkeypatch.setenv("OLLAMA_HOST", ollama_server.host)
    up = check(model, **asked)
    assert (_verdicts(up, "ollama"), up.kept) == ({"yes"}, False)
    assert check(model, **asked).kept
    server = Server.at(ollama_server.host)
    assert name in server.models()
    with server._open("/api/delete", json.dumps({"model": name}).encode(), method="DELETE"):
        pass
    assert name not in server.models()
    again = check(model, **asked)
    assert (again.ok, again.kept) == (True, False)
    assert name in server.models()
    server.ask("/api/create", {"model": name, "from": name, "system": "Mine."})
    taken = check(model, **asked)
    assert (taken.ok, taken.kept) == (False, False)
    assert "another model named" in taken.findings[0].why
    assert server.ask("/api/show", {"model": name})["system"] == "Mine."


def test_a_kept_export_is_made_in_a_server_that_came_later_or_lost_it(
    model: Path, tmp_path: Path, ollama_server: needs.OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    into = tmp_path / "later"
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    to = [Gguf(types=("f32",)), Ollama(name="later")]
    assert export(model, to=to, into=into)["ollama"].about["created"] is False
    monkeypatch.setenv("OLLAMA_HOST", ollama_server.host)
    assert "later:latest" not in Server.at().models()
    kept = export(model, to=to, into=into)["ollama"]
    assert kept.about["created"] is True
    assert "later:latest" in Server.at().models()


def _run(folder: Path, rows: list[dict[str, Any]]) -> Run:
    train = folder / "train.jsonl"
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(RECIPE.format(train=train))
    return Run(folder)


def test_prompts_that_are_too_long_or_have_tools_are_passed_over_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = {"role": "assistant", "content": "yes"}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": "long " * 50}, answer]},
        {"messages": [{"role": "user", "content": "with"}, answer], "tools": [tool]},
        {"messages": [{"role": "user", "content": "one"}, answer]},
        {"messages": [{"role": "user", "content": "two"}, answer]},
    ]
    asks = held_out_asks(_run(tmp_path, rows), 3, lambda ask: len(str(ask)) < 100)
    assert [ask[-1]["content"] for ask in asks if not isinstance(ask, str)] == ["one", "two"]
    assert "2 rows of your data are not asked" in capsys.readouterr().err


@pytest.mark.parametrize("drop", [False, True], ids=["with the system prompt", "without"])
def test_rows_held_out_as_a_share_are_asked_before_those_learnt_from(tmp_path: Path, drop: bool) -> None:
    def row(n: int) -> dict[str, Any]:
        said = [("system", f"You are {n % 2}."), ("user", f"ask {n}"), ("assistant", "yes")]
        return {"messages": [{"role": role, "content": content} for role, content in said]}

    run = _run(tmp_path, [row(n) for n in range(8)])
    assert [one.messages[1]["content"] for one in held_out_rows(run)] == [f"ask {n}" for n in range(8)]
    data = ", test: 0.25" + (", system_prompt: drop" if drop else "")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("messages}", f"messages{data}}}"))
    learnt, held_out = parted(run)
    asked = [one.messages[-2]["content"] for one in held_out_rows(run)]
    assert len(asked) == 2
    assert asked == [one.messages[1]["content"] for one in held_out]
    assert sorted(asked + [one.messages[1]["content"] for one in learnt]) == [f"ask {n}" for n in range(8)]
    assert [len(one.messages) for one in held_out_rows(run)] == [2 if drop else 3] * 2
