"""Models that have more than their weights: kept beside them, put on again, and taken where they have no place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tiny.models import save
from tunesmith.errors import ArtifactError, SourceError
from tunesmith.exports.gguf import Gguf
from tunesmith.exports.safetensors import Safetensors
from tunesmith.machine import Machine
from tunesmith.methods.adapter import Adapter
from tunesmith.sources.folder import Folder
from tunesmith.weights import additions
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load
from tunesmith.weights.save import save as save_model

MACHINE = Machine(2, 10**10, 10**11)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tuned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a model with layers behind its sub-layers."""
    torch.manual_seed(0)
    method = Adapter(form="houlsby", size=8, scale=2.0)
    model = method.wrap(load(base), BaseFacts.read(base))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn_like(weight)
    folder = tmp_path_factory.mktemp("tuned")
    save_model(method.settle(model), base, folder)
    return folder


def test_the_base_s_weights_stay_as_they_are_and_what_comes_to_them_lies_beside(base: Path, tuned: Path) -> None:
    own, kept = (load_file(folder / "model.safetensors") for folder in (base, tuned))
    assert set(own) == set(kept)
    assert all(torch.equal(own[name], kept[name]) for name in own)
    told = json.loads((tuned / "additions.json").read_text())
    assert (told["kind"], told["size"], told["scale"], told["activation"]) == ("sequential", 8, 2.0, "relu")
    assert told["places"] == [f"model.layers.{layer}.{part}" for layer in (0, 1) for part in ("self_attn", "mlp")]
    assert sorted(load_file(tuned / "additions.safetensors")) == told["weights"]
    assert BaseFacts.read(tuned).additions == "sequential"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folder_with_additions_is_loaded_with_them(base: Path, tuned: Path, dtype: torch.dtype) -> None:
    model, plain = load(tuned, dtype), load(base)
    assert {weight.dtype for weight in model.parameters()} == {dtype}
    with torch.no_grad():
        ids = torch.arange(5, 30)[None]
        assert (model(ids).logits.float() - plain(ids).logits).abs().max() > 0.1
    own, beside = additions.split(model)
    assert set(own) == set(plain.state_dict())
    assert all(
        torch.equal(weight, load_file(tuned / "additions.safetensors")[name].to(dtype))
        for name, weight in beside.items()
    )


def test_a_folder_saved_again_is_the_same(tuned: Path, tmp_path: Path) -> None:
    save_model(load(tuned), tuned, tmp_path)
    for name in ("model.safetensors", "additions.safetensors", "additions.json"):
        assert (tmp_path / name).read_bytes() == (tuned / name).read_bytes(), name


def test_files_of_a_plain_model_have_no_place_for_them(tuned: Path) -> None:
    facts = BaseFacts.read(tuned)
    for export in (Safetensors(), Gguf()):  # Ollama takes what the latter writes
        found = [fault for fault in export.refuse(facts, MACHINE) if fault.code == "export/additions"]
        assert len(found) == 1, export.kind
        assert "sequential" in found[0].what


def test_a_model_with_additions_is_no_base(tuned: Path) -> None:
    with pytest.raises(SourceError) as caught:
        Folder().facts(str(tuned))
    assert [fault.code for fault in caught.value.faults] == ["source/has-additions"]


def test_additions_of_a_kind_that_is_not_known_are_refused(tuned: Path, tmp_path: Path) -> None:
    told = json.loads((tuned / "additions.json").read_text())
    (tmp_path / "additions.json").write_text(json.dumps({**told, "kind": "sideways"}))
    with pytest.raises(ArtifactError) as caught:
        additions.read(tmp_path)
    assert [fault.code for fault in caught.value.faults] == ["artifact/unknown-additions"]
    assert "'sideways'" in caught.value.faults[0].what


def test_weights_that_no_place_is_told_for_are_an_error(tuned: Path, tmp_path: Path) -> None:
    model = load(tuned)
    model.additions["weights"].pop()
    with pytest.raises(ValueError, match="no place for"):
        additions.fill(model, tuned)
