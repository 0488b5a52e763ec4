"""The whole chain on other families than the real model's: random weights of a few million, then tuned."""

from __future__ import annotations

from pathlib import Path

import pytest

from needs import OllamaServer, need_node
from tiny.models import save
from tiny.rows import SHOP, write_chats
from tunesmith.recipe import Recipe
from tunesmith.verbs.run import run

SIZE = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "head_dim": 64}
RECIPE = """
base: {base}
data: {{train: {data}}}
method: {{kind: full}}
run: {{epochs: 40, batch_size: 6, gradient_accumulation_steps: 1, learning_rate: 1e-3, weight_decay: 0}}
export:
  - {{kind: gguf, types: [f32, bf16, q8_0]}}
  - ollama
  - {{kind: web, dtypes: [fp32, q4]}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3", "gemma3_text", "mistral"])
def test_every_runtime_answers_as_the_tuned_model_does(
    family: str, tmp_path: Path, ollama_server: OllamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_node()
    monkeypatch.chdir(tmp_path)
    base = save(tmp_path / "base", family, **SIZE)
    data = write_chats(tmp_path / "rows.jsonl", SHOP)
    recipe = Recipe.from_text(RECIPE.format(base=base, data=data))
    ran = run(recipe, into=tmp_path / "run")
    assert ran.checked is not None
    assert [one for one in ran.checked.findings if one.verdict != "yes"] == []
    seen = {(one.runtime, one.variant) for one in ran.checked.findings}
    assert seen == {
        *(("llama_cpp", name) for name in ("f32", "bf16", "q8_0")),
        ("ollama", "q8_0"),
        *((runtime, name) for runtime in ("onnxruntime", "transformers_js") for name in ("fp32", "q4")),
    }
    again = run(recipe, into=tmp_path / "run")
    assert {one.state for one in again.stages} == {"kept"}
