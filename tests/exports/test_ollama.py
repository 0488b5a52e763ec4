from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import needs
from tunesmith.artifact import Export, Model
from tunesmith.errors import ExportError, RecipeError, RuntimeFault
from tunesmith.exports.gguf import Gguf
from tunesmith.exports.ollama import Ollama, _name
from tunesmith.machine import Machine
from tunesmith.ollama_server import Server, digest_of, is_known_older, tagged
from tunesmith.recipe import Recipe
from tunesmith.runtimes.ollama import Ollama as OllamaRuntime
from tunesmith.weights.facts import BaseFacts


def _write(exporter: Ollama, model: Path, gguf: Export, into: Path, raw_text: bool = False) -> Export:
    into.mkdir(parents=True, exist_ok=True)
    return exporter.write(Model.of(model, raw_text), {"gguf": gguf}, into)


def _payload(folder: Path) -> Mapping[str, Any]:
    return dict(json.loads((folder / "ollama.json").read_text(encoding="utf-8")))


def test_without_a_server_everything_is_written_and_the_command_is_named(
    learnt_model: Path, learnt_gguf: Export, tmp_path: Path
) -> None:
    made = _write(Ollama(), learnt_model, learnt_gguf, tmp_path / "ollama")
    assert made.about["created"] is False
    assert made.about["get"].startswith("ollama create tunesmith-learnt -f ")
    payload = _payload(made.folder)
    assert payload["model"] == "tunesmith-learnt"
    assert payload["system"] == "You are tiny."
    (name, digest), *_ = payload["files"].items()
    assert name == "model-q8_0.gguf"
    assert digest.startswith("sha256:")
    lines = (made.folder / "Modelfile").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("FROM ")
    assert (made.folder / lines[0].removeprefix("FROM ")).resolve() == learnt_gguf.variants["q8_0"].path.resolve()


def test_every_parameter_is_said_and_the_context_is_the_models(
    learnt_model: Path, learnt_gguf: Export, tmp_path: Path
) -> None:
    made = _write(Ollama(create=False), learnt_model, learnt_gguf, tmp_path)
    said = _payload(made.folder)["parameters"]
    assert said == {"num_ctx": 512, "temperature": 0.7, "top_k": 40, "top_p": 0.9, "repeat_penalty": 1.0}


def test_a_parameter_of_the_recipe_takes_the_place_of_a_derived_one(
    learnt_model: Path, learnt_gguf: Export, tmp_path: Path
) -> None:
    chosen = Ollama(create=False, num_ctx=128, parameters={"temperature": 0, "stop": ("###",)})
    said = _payload(_write(chosen, learnt_model, learnt_gguf, tmp_path).folder)["parameters"]
    assert (said["num_ctx"], said["temperature"], said["stop"]) == (128, 0, ["###"])


def test_a_raw_text_model_gets_the_bare_prompt(learnt_model: Path, learnt_gguf: Export, tmp_path: Path) -> None:
    payload = _payload(_write(Ollama(create=False), learnt_model, learnt_gguf, tmp_path, raw_text=True).folder)
    assert payload["template"] == "{{ .Prompt }}"
    assert "system" not in payload


def test_a_type_that_was_not_made_is_named_with_those_that_were(
    learnt_model: Path, learnt_gguf: Export, tmp_path: Path
) -> None:
    with pytest.raises(ExportError) as caught:
        _write(Ollama(type="bf16"), learnt_model, learnt_gguf, tmp_path)
    assert caught.value.faults[0].code == "export/no-such-type"
    assert "f32, q8_0" in caught.value.faults[0].what


def test_float32_weights_are_judged_as_float16_since_the_cache_is(
    learnt_model: Path, learnt_gguf: Export, tmp_path: Path
) -> None:
    made = _write(Ollama(type="f32", create=False), learnt_model, learnt_gguf, tmp_path)
    assert {name: one.precision for name, one in made.variants.items()} == {"f32": "float16"}


def test_ollama_refuses_nothing_and_counts_its_own_copies(learnt_model: Path) -> None:
    facts = BaseFacts.read(learnt_model)
    assert Ollama().refuse(facts, Machine.look()) == []
    (fault,) = Ollama(type="f32").refuse_beside({"gguf": Gguf()})
    assert (fault.code, fault.key) == ("export/no-such-type", "export.ollama.type")
    assert (
        Ollama(type="f32").refuse_beside({"gguf": Gguf(types=("f32",))})
        == Ollama().refuse_beside({"gguf": Gguf()})
        == []
    )
    weights = facts.n_parameters * 34 // 32
    assert Ollama(create=False).disk_bytes(facts) < Ollama().disk_bytes(facts) - 2 * weights + 1


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("name: two words", "an Ollama name is made of"),
        ("parameters: {temprature: 0}", "did you mean 'temperature'?"),
        ("type: q4_k_m", "f32"),
        ("name: my.org/voice", "an Ollama name is made of"),
        ("host: 'box:abc'", "is no address"),
        ("parameters: {temperature: hot}", "temperature is a number of 0 or more, not 'hot'"),
        ("parameters: {num_ctx: -5}", "num_ctx is a whole number of 1 or more, not -5"),
        ("parameters: {top_k: 1.5}", "top_k is a whole number"),
        ("parameters: {use_mmap: 1}", "use_mmap is true or false"),
        ("parameters: {stop: 3}", "stop is a text"),
    ],
)
def test_a_wrong_option_is_a_fault_of_the_recipe(option: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_text(f"base: x\ndata: {{train: x.jsonl}}\nexport: [{{kind: ollama, {option}}}]\n")
    assert said in str(caught.value)


def test_a_server_makes_the_model_once_and_again_only_when_it_changed(
    learnt_model: Path, learnt_gguf: Export, ollama_server: needs.OllamaServer, tmp_path: Path
) -> None:
    made = _write(Ollama(name="once"), learnt_model, learnt_gguf, tmp_path / "one")
    assert made.about["created"] is True
    payload, weights = _payload(made.folder), learnt_gguf.variants["q8_0"].path
    server = Server.at(ollama_server.host)
    assert server.create(payload, weights) is False
    assert server.create({**payload, "system": "Another."}, weights) is True
    assert server.ask("/api/show", {"model": "once"})["system"] == "Another."
    assert server.create(payload, weights) is True
    assert server.ask("/api/show", {"model": "once"})["system"] == "You are tiny."


def test_a_name_that_another_model_has_is_not_taken(
    learnt_model: Path, learnt_gguf: Export, ollama_server: needs.OllamaServer, tmp_path: Path
) -> None:
    server = Server.at(ollama_server.host)
    gguf = learnt_gguf.variants["q8_0"].path
    server.create({"model": "seed", "files": {gguf.name: digest_of(gguf)}}, gguf)
    server.ask("/api/create", {"model": "mine", "from": "seed", "system": "Mine."})
    with pytest.raises(ExportError) as caught:
        _write(Ollama(name="Mine"), learnt_model, learnt_gguf, tmp_path / "ollama")
    assert caught.value.faults[0].code == "runtime/ollama-name-taken"
    assert "ollama rm mine" in caught.value.faults[0].fix
    assert server.ask("/api/show", {"model": "mine"})["system"] == "Mine."


def test_names_are_found_again_as_ollama_writes_them(
    learnt_model: Path, learnt_gguf: Export, ollama_server: needs.OllamaServer, tmp_path: Path
) -> None:
    for name in ("cased", "Cased", "library/solo"):
        made = _write(Ollama(name=name), learnt_model, learnt_gguf, tmp_path / name.replace("/", "-"))
        assert made.about["created"] is True


def test_two_runs_of_one_name_do_not_share_a_model(
    learnt_model: Path, learnt_gguf: Export, ollama_server: needs.OllamaServer, tmp_path: Path
) -> None:
    import shutil

    names = []
    for top in ("a", "b", "a"):
        model = tmp_path / top / "voice" / "model"
        gguf = shutil.copytree(learnt_gguf.folder, tmp_path / top / "voice" / "gguf", dirs_exist_ok=True)
        shutil.copytree(learnt_model, model, dirs_exist_ok=True)
        one = replace(learnt_gguf.variants["q8_0"], path=gguf / "model-q8_0.gguf")
        made = _write(
            Ollama(), model, replace(learnt_gguf, variants={"q8_0": one}), tmp_path / top / "voice" / "ollama"
        )
        names.append(made.about["model"])
    assert names[0] == names[2] == "tunesmith-voice"
    assert names[1].startswith("tunesmith-voice-")


def test_a_name_that_loses_its_letters_keeps_a_hash_of_them() -> None:
    assert _name(Path("runs/demo/model")) == "tunesmith-demo"
    names = {_name(Path("runs") / word / "model") for word in ("日本語", "東京")}
    assert len(names) == 2
    assert all(name.startswith("tunesmith-model-") for name in names)


def test_what_the_server_refuses_is_an_error_of_the_export(
    learnt_model: Path, learnt_gguf: Export, ollama_server: needs.OllamaServer, tmp_path: Path
) -> None:
    path = tmp_path / "model-q8_0.gguf"
    path.write_bytes(b"GGUF no more")
    broken = replace(learnt_gguf, variants={"q8_0": replace(learnt_gguf.variants["q8_0"], path=path)})
    with pytest.raises(ExportError) as caught:
        _write(Ollama(name="broken"), learnt_model, broken, tmp_path / "ollama")
    assert caught.value.faults[0].code == "export/ollama-refused"
    assert "create: false" in caught.value.faults[0].fix


@pytest.mark.parametrize(
    ("word", "address"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":8080", "http://127.0.0.1:8080"),
        ("box.lan:99", "http://box.lan:99"),
        ("https://box.lan", "https://box.lan:443"),
        ("http://[::1]:5/x/", "http://[::1]:5/x"),
    ],
)
def test_a_host_is_read_as_ollama_reads_it(word: str, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", word)
    assert Server.at().address == address
    assert Server.at(word or None).address == address


@pytest.mark.parametrize("word", ["127.0.0.1:99999", "box:abc", "my box", "[::1", "ftp://box", "http://"])
def test_what_is_no_address_is_said(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if word == "http://":  # no host is this machine
        assert Server.at(word).address == "http://127.0.0.1:80"
        return
    with pytest.raises(RuntimeFault) as caught:
        Server.at(word)
    assert caught.value.faults[0].code == "runtime/ollama-address"
    monkeypatch.setenv("OLLAMA_HOST", word)
    found = OllamaRuntime().present()
    assert not found.here
    assert repr(word) in found.get


def test_versions_and_names_are_compared_as_ollama_writes_them() -> None:
    assert is_known_older("0.24.0", (0, 30))
    assert not is_known_older("0.32.14", (0, 30))
    assert not is_known_older("0.0.0", (0, 30))
    assert (tagged("a/b"), tagged("a:v1")) == ("a/b:latest", "a:v1")
    assert tagged("Voice") == tagged("library/voice") == "voice:latest"
