from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

import needs
from tiny.learnt import ANSWERS
from tunesmith.artifact import Export, Model
from tunesmith.checks._battery import battery
from tunesmith.errors import CannotTell, RuntimeFault
from tunesmith.exports.gguf import Gguf
from tunesmith.exports.ollama import Ollama as OllamaExport
from tunesmith.ollama_server import Server, digest_of
from tunesmith.runtimes._ollama_words import ids_by_text, listed
from tunesmith.runtimes.ollama import Ollama, OpenedOllama
from tunesmith.runtimes.torch import open_folder
from tunesmith.text.example import Prompt
from tunesmith.text.template import Text

ASKS = [[{"role": "user", "content": question}] for question in ANSWERS]


def _export(model: Path, gguf: Export, into: Path, **options: Any) -> Export:
    into.mkdir(parents=True)
    return OllamaExport(**options).write(Model.of(model), {"gguf": gguf}, into)


@pytest.fixture(scope="module")
def exported(
    learnt_model: Path, learnt_gguf: Export, ollama_server: needs.OllamaServer, tmp_path_factory: pytest.TempPathFactory
) -> Export:
    """Not made in the server yet: opening it does that."""
    into = tmp_path_factory.mktemp("runtime") / "ollama"
    return _export(learnt_model, learnt_gguf, into, type="f32", create=False, name="checked")


@pytest.fixture(scope="module")
def text(learnt_model: Path) -> Text:
    return Text.read(learnt_model)


def test_it_answers_as_torch_does_and_stops(
    exported: Export, text: Text, learnt_model: Path, ollama_server: needs.OllamaServer
) -> None:
    assert Ollama().present().version == ollama_server.version
    with Ollama().open(exported, "f32", text) as opened, open_folder(learnt_model, text) as torch:
        for ask in ASKS:
            wanted, seen = torch.answer(ask, 32), opened.answer(ask, 32)
            assert seen.text == wanted.text == ANSWERS[ask[0]["content"]]
            assert seen.stopped
            assert seen.n_prompt_tokens == wanted.n_prompt_tokens
            cut = opened.answer(ask, 2)
            assert not cut.stopped


def test_a_program_that_uses_ollamas_own_client_gets_the_same_answers(
    learnt_model: Path, learnt_gguf: Export, ollama_server: needs.OllamaServer, tmp_path: Path
) -> None:
    from ollama import Client

    _export(learnt_model, learnt_gguf, tmp_path / "ollama", name="client", parameters={"temperature": 0})
    client = Client(host=ollama_server.host)
    for ask in ASKS:
        reply = client.chat(model="client", messages=ask)
        assert reply.message.content == ANSWERS[ask[0]["content"]]
        assert reply.done_reason == "stop"


def test_it_renders_and_counts_as_the_tokenizer_does(
    exported: Export, text: Text, ollama_server: needs.OllamaServer
) -> None:
    asks = battery(text, raw_text=False)
    assert len(asks) == 5
    with Ollama().open(exported, "f32", text) as opened:
        for ask in asks:
            prompt = text.prompt(ask)
            assert opened.render(ask) == prompt.text
            assert opened.tokens(prompt.text) == len(prompt.ids)


def test_its_probabilities_are_torchs_within_the_rounding_of_its_cache(
    exported: Export, text: Text, learnt_model: Path, ollama_server: needs.OllamaServer
) -> None:
    with Ollama().open(exported, "f32", text) as opened, open_folder(learnt_model, text) as torch:
        for ask in ASKS:
            seen = opened.logprobs(text.prompt(ask), 100)
            wanted = torch.logprobs(text.prompt(ask), 100)
            assert 3 <= len(seen) <= 20
            likely = {token: logprob for token, logprob in seen.items() if logprob > -8}
            assert max(abs(wanted[token] - logprob) for token, logprob in likely.items()) < 0.01


def test_probabilities_come_even_where_the_answer_would_end_at_once(
    exported: Export, text: Text, ollama_server: needs.OllamaServer
) -> None:
    """The likeliest token is the end, which writes nothing: its place is told by no text, and that is said."""
    whole = text.prompt(ASKS[1]).text + "hello, please!"
    with Ollama().open(exported, "f32", text) as opened, pytest.raises(CannotTell):
        opened.logprobs(Prompt(whole, tuple(text.encode(whole))), 10)


def test_a_raw_text_is_gone_on_with_as_it_stands(
    learnt_model: Path, learnt_gguf: Export, ollama_server: needs.OllamaServer, tmp_path: Path
) -> None:
    into = tmp_path / "ollama"
    into.mkdir()
    model = Model.of(learnt_model, raw_text=True)
    export = OllamaExport(type="f32", name="raw").write(model, {"gguf": learnt_gguf}, into)
    text = Text.read(learnt_model)
    with Ollama().open(export, "f32", text) as opened, open_folder(learnt_model, text) as torch:
        assert opened.render("the quick") == "the quick"
        assert opened.answer("the quick", 5).text == torch.answer("the quick", 5).text


def test_where_no_server_answers_it_is_said_how_to_get_one(
    exported: Export, text: Text, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    found = Ollama().present()
    assert not found.here
    assert "ollama serve" in found.get
    with pytest.raises(CannotTell, match="ollama serve"), Ollama().open(exported, "f32", text):
        pass


def test_a_server_that_refuses_or_is_gone_is_told_apart(ollama_server: needs.OllamaServer) -> None:
    with pytest.raises(RuntimeFault) as caught:
        Server.at(ollama_server.host).ask("/api/show", {"model": "nowhere"})
    assert caught.value.faults[0].code == "runtime/ollama-refused"
    assert "nowhere" in caught.value.faults[0].what
    with pytest.raises(RuntimeFault) as caught:
        Server.at("127.0.0.1:9").ask("/api/show", {"model": "nowhere"})
    assert caught.value.faults[0].code == "runtime/ollama-gone"
    assert "ollama serve" in caught.value.faults[0].fix


def test_lost_weights_are_a_fault_with_a_cure(
    learnt_model: Path, learnt_gguf: Export, text: Text, ollama_server: needs.OllamaServer, tmp_path: Path
) -> None:
    from dataclasses import replace

    export = _export(learnt_model, learnt_gguf, tmp_path / "ollama", create=False)
    one = replace(export.variants["q8_0"], about={"gguf": "../gone.gguf"})
    with (
        pytest.raises(RuntimeFault) as caught,
        Ollama().open(replace(export, variants={"q8_0": one}), "q8_0", text),
    ):
        pass
    assert caught.value.faults[0].code == "runtime/no-weights"


def test_tokens_are_known_by_their_text_only_where_it_is_theirs_alone(text: Text) -> None:
    ids = ids_by_text(text)
    the = text.encode("a the")[-1]
    assert ids[" the"] == the
    assert "" not in ids
    told = [
        {"token": "!", "logprob": -0.5},
        {"token": " the", "logprob": -0.1},
        {"token": "", "logprob": -1},
        {"token": "a", "logprob": -2},
    ]
    assert listed(told, ids) == {the: -0.1, ids["!"]: -0.5}
    assert listed(told, ids, skip_unwritten=True) == {the: -0.1, ids["!"]: -0.5, ids["a"]: -2}
    impossible = [{**one, "logprob": -3.4e38} for one in (told[3], told[1], told[0])]
    assert list(listed(impossible, ids)) == [ids["a"], the, ids["!"]]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["headers", "thinking", "model role"])
def test_a_template_that_go_cannot_say_is_rendered_by_the_ggufs_own(
    family: str, ollama_server: needs.OllamaServer, tmp_path: Path
) -> None:
    from tiny.families import FAMILIES, words_of
    from tiny.models import save

    folder = save(tmp_path / "model", "llama", vocab_size=600, tie_word_embeddings=True)
    words_of(FAMILIES[family]).save_pretrained(folder)
    gguf = _gguf(folder, tmp_path / "exports", ("f16",))
    made = _export(folder, gguf, tmp_path / "exports" / "ollama", name=f"own-{family.replace(' ', '-')}")
    payload = json.loads((made.folder / "ollama.json").read_text())
    assert "template" not in payload
    assert payload["requires"] == "0.30.0"
    text = Text.read(folder)
    asks = battery(text, raw_text=False)
    assert len(asks) >= 4
    with Ollama().open(made, "f16", text) as opened:
        for ask in asks:
            prompt = text.prompt(ask)
            assert opened.render(ask) == prompt.text
            assert opened.tokens(prompt.text) == len(prompt.ids)


WITH_TOOLS = (
    "{% if tools %}{{ '<|im_start|>system\n' }}{% for tool in tools %}{{ tool | tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}{% for m in messages %}"
    "{% for call in m.tool_calls or [] %}{{ call.function.name }}{% endfor %}"
    "{% if m.role == 'tool' %}{{ '<tool_response>' + m.content + '</tool_response>' }}{% endif %}{% endfor %}"
)


@pytest.mark.slow
def test_a_template_with_tools_renders_the_same_though_ollama_prefers_it_to_ours(
    ollama_server: needs.OllamaServer, tmp_path: Path
) -> None:
    from tiny.models import CHATML, save

    folder = save(tmp_path / "model", "llama", template=WITH_TOOLS + CHATML)
    made = _export(folder, _gguf(folder, tmp_path / "exports", ("f16",)), tmp_path / "exports" / "ollama", name="tools")
    assert made.about["prompt"] == "template"
    shown = Server.at(ollama_server.host).ask("/api/show", {"model": "tools"})
    assert "tools" in shown["capabilities"]
    text = Text.read(folder)
    with Ollama().open(made, "f16", text) as opened:
        for ask in battery(text, raw_text=False):
            assert opened.render(ask) == text.prompt(ask).text


SIX = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "system", "content": "Answer in one word."}, {"role": "user", "content": "What colour is the sky?"}],
    [
        {"role": "user", "content": "Say hello."},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "And in French?"},
    ],
    [{"role": "user", "content": "Write one line about the sea."}],
    [{"role": "user", "content": "  What is 2 + 3?\n"}],
    [{"role": "user", "content": "Name three fruits."}],
]


@pytest.mark.slow
def test_a_plain_import_loses_the_prompt_of_the_real_model_and_ours_keeps_it(
    ollama_server: needs.OllamaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`FROM x.gguf` alone: Ollama takes ChatML's default for the model's own template, without its system prompt."""
    folder = needs.smollm2()
    text = Text.read(folder)
    server = Server.at(ollama_server.host)
    ours = _export(folder, _gguf(folder, tmp_path / "ours", ("f32",)), tmp_path / "ours" / "ollama", name="ours")
    monkeypatch.setattr("tunesmith.exports._conversion.commented", lambda template: template)
    plain = _gguf(folder, tmp_path / "plain", ("f32",)).variants["f32"].path
    server.create({"model": "plain", "files": {plain.name: digest_of(plain)}}, plain)
    with open_folder(folder, text) as torch, Ollama().open(ours, "f32", text) as opened:
        answers = [torch.answer(ask, 32).text.strip() for ask in SIX]
        assert [opened.render(ask) for ask in SIX] == [text.prompt(ask).text for ask in SIX]
        assert [opened.answer(ask, 32).text.strip() for ask in SIX] == answers
        lost = type(opened)(server, "plain", text)
        same_prompt = [lost.render(ask) == text.prompt(ask).text for ask in SIX]
        same_answer = [lost.answer(ask, 32).text.strip() == said for ask, said in zip(SIX, answers, strict=True)]
    with_system = [any(turn["role"] == "system" for turn in ask) for ask in SIX]
    assert same_prompt == with_system  # only where a system turn is given is nothing lost
    assert sum(same_answer) < len(SIX)


def _gguf(folder: Path, into: Path, types: tuple[Any, ...]) -> Export:
    (into / "gguf").mkdir(parents=True)
    return Gguf(types=types).write(Model.of(folder), {}, into / "gguf")


class _Odd:
    """A program that answers every request with the same bytes."""

    def __init__(self, said: bytes) -> None:
        self.said, self.socket = said, socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                with self.socket.accept()[0] as talk:
                    talk.recv(65536)
                    talk.sendall(self.said)
            except OSError:
                return


def _http(body: str) -> bytes:
    return f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.mark.parametrize("said", [b"SSH-2.0-x\r\n", b"", _http("[1]"), _http("no json"), _http("null")])
def test_another_program_on_the_port_is_no_server_and_a_fault_when_asked(said: bytes) -> None:
    odd = _Odd(said)
    server = Server.at(odd.host)
    try:
        assert server.version() == ""
        for ask in (lambda: server.ask("/api/show", {}), server.models):
            with pytest.raises(RuntimeFault, match="runtime/ollama"):
                ask()
    finally:
        odd.socket.close()


def test_a_server_too_old_to_say_what_is_asked_cannot_tell(text: Text) -> None:
    odd = _Odd(_http('{"response": "x", "done": true}'))
    opened = OpenedOllama(Server.at(odd.host), "old", text)
    try:
        for ask in (lambda: opened.render(ASKS[0]), lambda: opened.tokens("a")):
            with pytest.raises(CannotTell, match="update it"):
                ask()
    finally:
        odd.socket.close()
