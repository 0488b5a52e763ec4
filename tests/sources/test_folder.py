"""A model folder as a source, and what cannot be a base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tiny.models import save
from tunesmith.errors import SourceError
from tunesmith.sources._examine import examined
from tunesmith.sources.folder import Folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "m")


def codes(folder: Path) -> list[str]:
    with pytest.raises(SourceError) as raised:
        Folder().bring(str(folder))
    return [fault.code for fault in raised.value.faults]


def configure(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_folder_is_used_where_it_stands(model: Path) -> None:
    assert Folder().bring(str(model)) == model
    assert Folder().facts(str(model)).hidden_size == 64


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert codes(tmp_path / "nowhere") == ["source/no-folder"]


def test_a_pickle_is_refused_with_the_way_to_convert_it(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    assert codes(model) == ["source/no-safetensors"]
    (model / "pytorch_model.bin").unlink()
    assert codes(model) == ["source/no-weights"]


def test_a_shard_that_is_missing_is_named(model: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(SourceError, match=r"source/weights-missing.*1 of 2 weight files .* model-00002"):
        Folder().bring(str(model))


def test_an_adapter_is_told_what_it_is_and_what_it_stands_on(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/base"}))
    with pytest.raises(SourceError, match=r"(?s)source/is-adapter.*set base: org/base") as raised:
        Folder().facts(str(tmp_path))
    assert raised.value.faults[0].fix.endswith(f"tunesmith export --to gguf {tmp_path}")
    with pytest.raises(SourceError) as raised:
        examined(tmp_path, "org/adapter@v1")
    assert "hf download org/adapter --revision v1 --local-dir adapter" in raised.value.faults[0].fix


def test_all_reasons_are_told_at_once(model: Path) -> None:
    configure(model, model_type="vit", quantization_config={"quant_method": "gptq"})
    (model / "tokenizer.json").unlink()
    assert codes(model) == ["source/not-a-language-model", "source/quantised", "source/no-tokenizer"]


def test_a_type_that_transformers_does_not_know(model: Path) -> None:
    configure(model, model_type="nobody_knows")
    assert codes(model) == ["source/unknown-model-type"]
    configure(model, auto_map={"AutoConfig": "x.Y"})
    assert codes(model) == ["source/remote-code"]


def test_a_tokenizer_with_code_of_its_own_is_refused_and_the_code_is_not_run(model: Path) -> None:
    (model / "words.py").write_text("raise SystemExit('foreign code ran')")
    file = model / "tokenizer_config.json"
    told = json.loads(file.read_text())
    file.write_text(
        json.dumps({**told, "tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["words.Mine", None]}})
    )
    assert codes(model) == ["source/remote-code"]
    file.write_text(json.dumps(told))
    configure(model, auto_map={"AutoTokenizer": "words.Mine"})
    assert codes(model) == ["source/remote-code"]


def test_a_known_type_with_code_beside_it_is_taken_without_the_code(model: Path) -> None:
    configure(model, auto_map={"AutoModelForCausalLM": "x.Y"})
    assert Folder().bring(str(model)) == model
