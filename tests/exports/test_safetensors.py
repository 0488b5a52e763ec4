"""The safetensors export: the same weights in a folder that stands alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny.models import save
from tunesmith import files
from tunesmith.artifact import Model
from tunesmith.errors import ExportError
from tunesmith.exports.safetensors import Safetensors
from tunesmith.weights.facts import BaseFacts


def test_the_folder_loads_alone_and_takes_no_second_disk(tmp_path: Path) -> None:
    import torch

    from tunesmith.weights.load import load

    folder = save(tmp_path / "m")
    (tmp_path / "out").mkdir()
    export = Safetensors().write(Model.of(folder), {}, tmp_path / "out")
    assert list(export.variants) == ["float32"]
    assert (tmp_path / "out" / "model.safetensors").samefile(folder / "model.safetensors")
    assert not (tmp_path / "out" / "config.json").samefile(folder / "config.json")
    ids = torch.tensor([[1, 5, 9]])
    assert torch.equal(load(tmp_path / "out")(ids).logits, load(folder)(ids).logits)
    assert "apply_chat_template" in (tmp_path / "out" / "README.md").read_text()
    assert files.size_bytes(tmp_path / "out") <= Safetensors().disk_bytes(BaseFacts.read(folder))


def test_further_chat_templates_come_along(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    further = Path("additional_chat_templates") / "tool_use.jinja"
    (folder / further).parent.mkdir()
    (folder / further).write_text("{{ tools }}")
    (tmp_path / "out").mkdir()
    Safetensors().write(Model.of(folder), {}, tmp_path / "out")
    assert (tmp_path / "out" / further).read_text() == "{{ tools }}"


def test_a_cast_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = save(tmp_path / "m")
    before = files.sha256(folder / "model.safetensors")
    (tmp_path / "out").mkdir()
    export = Safetensors(dtype="bfloat16").write(Model.of(folder), {}, tmp_path / "out")
    assert files.sha256(folder / "model.safetensors") == before
    wanted, seen = load_file(folder / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(weight.to(torch.bfloat16), seen[name]) for name, weight in wanted.items())
    assert list(export.variants) == ["bfloat16"]
    assert BaseFacts.read(tmp_path / "out").config["dtype"] == "bfloat16"


def test_a_weight_beyond_float16_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save(tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = 1e5
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (tmp_path / "out").mkdir()
    with pytest.raises(ExportError, match=r"export/beyond-float16.*model.norm.weight holds 100000, and"):
        Safetensors(dtype="float16").write(Model.of(folder), {}, tmp_path / "out")


def test_a_raw_text_begins_with_the_token_that_its_tokenizer_adds(tmp_path: Path) -> None:
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    from tunesmith.runtimes.torch import Torch
    from tunesmith.text.template import Text

    folder, into = save(tmp_path / "model"), tmp_path / "out"
    words = AutoTokenizer.from_pretrained(folder)
    first = "<|endoftext|>"
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{first} $A", special_tokens=[(first, words.convert_tokens_to_ids(first))]
    )
    words.save_pretrained(folder)
    into.mkdir()
    made = Safetensors().write(Model.of(folder, raw_text=True), {}, into)
    text = Text.read(folder)
    prompt = text.prompt("the quick fox")
    assert prompt.ids[0] == words.convert_tokens_to_ids(first)
    with Torch().open(made, "float32", text) as opened:
        assert tuple(opened.tokens(prompt.text)) == prompt.ids
