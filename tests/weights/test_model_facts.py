from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny.models import save
from tunesmith.errors import SourceError
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text", "mistral"])
def test_facts_from_the_config_are_those_of_the_loaded_model(family: str, tmp_path: Path) -> None:
    facts, model = BaseFacts.read(save(tmp_path, family)), load(tmp_path)
    assert facts.n_parameters == sum(weight.numel() for weight in model.parameters())
    assert (facts.hidden_size, facts.n_layers, facts.context, facts.tied) == (64, 2, 512, True)
    assert (facts.n_heads, facts.head_size, facts.inner_size) == (4, 16, 128)
    assert facts.vocab_size == model.get_output_embeddings().out_features
    assert facts.linear_shapes["model.layers.1.mlp.down_proj"] == (128, 64)
    assert facts.model_type == family


def test_a_config_with_old_names_or_with_defaults_left_out_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_embd": 32, "n_head": 2, "n_layer": 1}))
    facts = BaseFacts.read(tmp_path)
    assert (facts.hidden_size, facts.n_layers, facts.context, facts.vocab_size) == (32, 1, 1024, 50257)


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="source/no-config"):
        BaseFacts.read(tmp_path)


def test_a_template_inside_the_tokenizer_config_is_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    named = [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert BaseFacts.read(tmp_path).chat_template == "D"
