"""The Hub as a source, against a hub of our own on this machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sources.hub_server import Hub as FakeHub
from sources.hub_server import serving
from tiny.models import save
from tunesmith.errors import SourceError
from tunesmith.sources._find import source_of
from tunesmith.sources.hub import Hub

TOKEN = "hf_notARealTokenButASecretAllTheSame"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`org/tiny` whole, and `org/pickled` whose weights are only a pickle."""
    top = tmp_path_factory.mktemp("hub")
    save(top / "org" / "tiny")
    (top / "org" / "tiny" / "onnx").mkdir()
    (top / "org" / "tiny" / "onnx" / "model.safetensors").write_bytes(b"not ours")
    shutil.copytree(top / "org" / "tiny", top / "org" / "pickled")
    (top / "org" / "pickled" / "model.safetensors").rename(top / "org" / "pickled" / "pytorch_model.bin")
    return top


@pytest.fixture
def hub(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serving(models) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        yield served


def code_of(base: str) -> str:
    with pytest.raises(SourceError) as raised:
        Hub().bring(base)
    assert TOKEN not in str(raised.value)
    return raised.value.faults[0].code


def test_facts_fetch_no_weights_and_bring_fetches_them(hub: FakeHub) -> None:
    facts = Hub().facts("org/tiny")
    assert (facts.name, facts.architecture, facts.n_layers) == ("org/tiny", "LlamaForCausalLM", 2)
    assert not [one for one in hub.asked if "safetensors" in one]
    folder = Hub().bring("org/tiny@v1")
    assert {file.name for file in folder.glob("*.safetensors")} == {"model.safetensors"}
    assert not (folder / "onnx").exists()
    assert (folder / "chat_template.jinja").is_file()


def test_what_was_fetched_once_is_there_without_the_hub(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Hub().bring("org/tiny")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert Hub().bring("org/tiny") == first


def test_each_refusal_of_the_hub_has_its_own_words(hub: FakeHub) -> None:
    assert code_of("org/nobody") == "source/not-found"
    assert code_of("org/tiny@v9") == "source/no-revision"
    assert code_of("a b//c") == "source/bad-name"
    assert code_of("org/pickled") == "source/no-safetensors"
    hub.refusals["org/tiny"] = "GatedRepo"
    assert code_of("org/tiny") == "source/gated"
    hub.refusals["org/tiny"] = "OutOfOrder"
    assert code_of("org/tiny") == "source/hub-failed"


def test_a_hub_that_cannot_be_reached_is_told_with_a_way_out(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceError) as raised:
        Hub().facts("org/elsewhere")
    assert raised.value.faults[0].code == "source/unreachable"
    assert "bundle:smollm2-135m-instruct" in raised.value.faults[0].fix


def test_a_word_goes_to_the_first_source_that_claims_it(tmp_path: Path) -> None:
    words = {
        "bundle:x": "Bundle",
        "a/b.gguf": "Gguf",
        str(tmp_path): "Folder",
        "./nowhere": "Folder",
        "~/x": "Folder",
        "org/name": "Hub",
        "name": "Hub",
    }
    assert {word: type(source_of(word)).__name__ for word in words} == words


def test_code_from_the_hub_is_never_run(hub: FakeHub, models: Path) -> None:
    coded = models / "org" / "coded"
    if not coded.exists():
        shutil.copytree(models / "org" / "tiny", coded)
    config = json.loads((coded / "config.json").read_text())
    changes = {"model_type": "own_thing", "auto_map": {"AutoModelForCausalLM": "modeling.Own"}}
    (coded / "config.json").write_text(json.dumps({**config, **changes}))
    (coded / "modeling.py").write_text("raise SystemExit('ran')")
    assert code_of("org/coded") == "source/remote-code"
