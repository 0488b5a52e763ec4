from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tiny.models import save as save_tiny
from tunesmith.learn.agree import gap, logprobs
from tunesmith.text.template import Text
from tunesmith.weights.load import load
from tunesmith.weights.save import end_with, save

ASKED = [(3, 9, 27, 81)]


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_a_saved_model_answers_the_same(family: str, tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base", family)
    model = load(base)
    before = logprobs(model, ASKED)
    save(model, base, tmp_path / "out")
    assert gap(logprobs(load(tmp_path / "out"), ASKED), before) == 0


def test_bfloat16_is_one_cast(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    model = load(base)
    expected = {name: weight.to(torch.bfloat16) for name, weight in model.state_dict().items()}
    save(model, base, tmp_path / "out", "bfloat16")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    kept = load(tmp_path / "out", torch.bfloat16).state_dict()
    assert kept.keys() == expected.keys()
    assert all(torch.equal(kept[name], weight) for name, weight in expected.items())


def test_the_words_are_copied_byte_by_byte(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    (base / "tokenizer.model").write_bytes(b"sentencepiece")
    save(load(base), base, tmp_path / "out")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "tokenizer.model"):
        assert (tmp_path / "out" / name).read_bytes() == (base / name).read_bytes()
    chat = [{"role": "user", "content": "hello"}]
    assert Text.read(tmp_path / "out").render(chat) == Text.read(base).render(chat)


def test_a_generation_config_that_transformers_would_not_write_is_kept_as_it_is(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    odd = '{"do_sample": false, "temperature": 0.7, "eos_token_id": [2, 1]}'
    (base / "generation_config.json").write_text(odd)
    save(load(base), base, tmp_path / "out")
    assert (tmp_path / "out" / "generation_config.json").read_text() == odd


def test_tied_weights_are_written_once(tmp_path: Path) -> None:
    from safetensors import safe_open

    base = save_tiny(tmp_path / "base")
    save(load(base), base, tmp_path / "out")
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118  # it is no mapping


def test_every_end_token_is_named_beside_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "generation_config.json"
    end_with(tmp_path, {7})
    assert json.loads(path.read_text()) == {"eos_token_id": 7}
    end_with(tmp_path, {7, 3})
    assert json.loads(path.read_text()) == {"eos_token_id": [3, 7]}
    before = path.stat().st_mtime_ns
    end_with(tmp_path, {3})
    assert path.stat().st_mtime_ns == before
