"""Every shipped recipe is read, and planned on a base that has no more than its config and tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import needs
from tiny import models
from tunesmith.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
MISTRAL_7B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}


def chat(number: int) -> str:
    asked, said = {"role": "user", "content": f"say {number}"}, {"role": "assistant", "content": str(number)}
    return json.dumps({"messages": [asked, said]})


def base(folder: Path, family: str, **shape: object) -> Path:
    """A folder with a config and a tokenizer, and no weights."""
    words = models.tokenizer()
    words.save_pretrained(folder)
    config = models.config(family, len(words), eos_token_id=words.eos_token_id, **shape)
    config.architectures = [f"{family.capitalize()}ForCausalLM"]
    config.save_pretrained(folder)
    return folder


def rows(folder: Path, chats: bool) -> Path:
    path = folder / ("rows.jsonl" if chats else "rows.txt")
    path.write_text("\n".join(chat(number) if chats else f"{number} and a line of text, " * 40 for number in range(40)))
    return path


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 4


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_read_as_it_stands_and_each_choice_has_its_words(path: Path) -> None:
    Recipe.read(path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert f"recipes/{path.name}" in text


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_planned_without_weights(path: Path, tmp_path: Path) -> None:
    from tunesmith.verbs.plan import plan

    if "web" in [one.kind for one in Recipe.read(path).export]:
        needs.need_node()
    is_chat = Recipe.read(path).objective.kind == "sft"
    data = rows(tmp_path, is_chat)
    folder = base(tmp_path / "base", "llama")
    changes = [f"base={folder}", f"data.train={data}", *(["data.test=0.1"] if is_chat else [])]
    planned = plan(Recipe.read(path, changes), into=tmp_path / "run", probe=False)
    assert [one.code for one in planned.refusals] == []
    assert planned.steps > 0
    assert planned.tokens > 0
    assert not (tmp_path / "run").exists()


def test_the_classic_case_has_its_numbers_and_is_planned_at_its_size(tmp_path: Path) -> None:
    """Mistral-7B: LoRA of rank 16 on q and v is 2 x 32 x 16 x ((4096 + 4096) + (4096 + 1024)) / 2 weights."""
    from tunesmith.verbs.plan import plan

    folder = base(tmp_path / "mistral", "mistral", **MISTRAL_7B)
    changes = [f"base={folder}", f"data.train={rows(tmp_path, chats=True)}"]
    recipe = Recipe.read(ROOT / "recipes" / "mistral-7b-lora.yaml", changes)
    method = recipe.as_tree()["method"]
    assert (method["kind"], method["rank"], method["alpha"], method["dropout"]) == ("lora", 16, 32, 0.05)
    assert method["targets"] == ["q_proj", "v_proj"]
    assert (recipe.run.batch_size, recipe.run.gradient_accumulation_steps) == (2, 2)
    assert (recipe.run.learning_rate, recipe.run.epochs) == (2e-4, 3)
    planned = plan(recipe, into=tmp_path / "run", probe=False)
    assert planned.ready.facts is not None
    by_hand = 32 * 16 * ((4096 + 4096) + (4096 + 1024))
    assert planned.ready.method.trainable(planned.ready.facts) == by_hand
    # 36 rows of 40 are learnt from, 4 a step, 3 epochs
    assert planned.steps == 27
    assert planned.memory_bytes > 7e9 * 2
    assert {one.code for one in planned.refusals} <= {"plan/memory-too-small", "plan/disk-too-small"}
