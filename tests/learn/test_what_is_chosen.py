"""Values that were left open, and the reasons given for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny.models import save
from tunesmith.learn.settings import Settings, longest, settle
from tunesmith.machine import Chosen, Machine, Speed
from tunesmith.methods.full import Full
from tunesmith.methods.lora import Lora
from tunesmith.recipe import Options
from tunesmith.weights.facts import BaseFacts

MACHINE = Machine(2, 24 * 10**9, 10**11)
SMOLLM = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = Speed(
        {"float32": 300.0, "float32-onednn": 290.0, "bfloat16": 150.0},
        {"float32": 1e-7, "float32-onednn": 1e-7, "bfloat16": 1e-3},
        1e10,
    )
    monkeypatch.setattr("tunesmith.learn.settings.measure", lambda machine: speed)


@pytest.fixture(scope="module")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> BaseFacts:
    from transformers import LlamaConfig

    folder = tmp_path_factory.mktemp("shape")
    shape = {**SMOLLM, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True}
    LlamaConfig(**shape, max_position_embeddings=8192).save_pretrained(folder)
    return BaseFacts.read(folder)


def chosen(facts: BaseFacts, rows: int, length: int = 80, **options: object) -> tuple[Settings, dict[str, Chosen]]:
    lengths = [(length, length // 2)] * rows
    settings, values = settle(Options(**options), Lora(), facts, MACHINE, lengths)
    return settings, {value.name: value for value in values}


@pytest.mark.parametrize(("rows", "a_step", "steps"), [(2100, 16, 396), (100, 5, 60), (8, 1, 24), (100_000, 16, 18750)])
def test_small_data_still_gives_many_steps(rows: int, a_step: int, steps: int, smollm: BaseFacts) -> None:
    settings, _ = chosen(smollm, rows)
    assert (settings.rows_per_step, settings.steps) == (a_step, steps)


def test_long_rows_make_a_step_of_fewer(smollm: BaseFacts) -> None:
    settings, _ = chosen(smollm, 1000, length=4096)
    assert settings.rows_per_step == 4


def test_the_recipe_is_taken_at_its_word(smollm: BaseFacts) -> None:
    settings, values = chosen(
        smollm, 100, batch_size=2, gradient_accumulation_steps=4, learning_rate=3e-4, save_dtype="bfloat16"
    )
    assert (settings.rows_per_step, settings.most_rows, settings.steps) == (8, 2, 39)
    assert (settings.learning_rate, settings.save_dtype) == (3e-4, "bfloat16")
    assert all(values[name].why.startswith("as the recipe says") for name in ("step", "learning_rate", "save_dtype"))


def test_a_batch_size_alone_is_the_step(smollm: BaseFacts) -> None:
    settings, _ = chosen(smollm, 100, batch_size=8)
    assert (settings.rows_per_step, settings.most_rows) == (8, 8)


def test_several_batches_alone_share_the_step(smollm: BaseFacts) -> None:
    settings, _ = chosen(smollm, 2100, gradient_accumulation_steps=4)
    assert (settings.rows_per_step, settings.most_rows) == (16, 4)


def test_a_step_by_tokens(smollm: BaseFacts) -> None:
    settings, values = chosen(smollm, 100, tokens_per_step=400, epochs=1)
    assert (settings.rows_per_step, settings.learnt_per_step, settings.steps) == (None, 400, 10)
    assert values["step"].value == "400 learnt tokens"


@pytest.mark.parametrize(("method", "rate"), [(Lora(), 1.1e-3), (Full(), 1.4e-4)])
def test_a_small_model_learns_in_larger_steps(method: Lora | Full, rate: float, smollm: BaseFacts) -> None:
    settings, values = settle(Options(), method, smollm, MACHINE, [(80, 40)] * 100)
    assert settings.learning_rate == rate
    assert next(one.why for one in values if one.name == "learning_rate").endswith("135 million")


def test_a_model_of_seven_billion_learns_in_smaller_ones(tmp_path: Path) -> None:
    from transformers import MistralConfig

    MistralConfig().save_pretrained(tmp_path)
    settings, _ = chosen(BaseFacts.read(tmp_path), 100)
    assert settings.learning_rate == 1.5e-4
    assert settings.save_dtype == "bfloat16"


def test_rows_too_long_for_the_memory_are_computed_twice(smollm: BaseFacts) -> None:
    lengths = [(8192, 4096)] * 10
    kept, _ = settle(Options(), Lora(), smollm, Machine(2, 10**11, 10**11), lengths)
    again, values = settle(Options(), Lora(), smollm, Machine(2, 12 * 10**9, 10**11), lengths)
    assert not kept.recompute
    assert again.recompute
    assert [one.why for one in values if one.name == "tokens_at_once"] == [
        "activations are computed twice to fit in memory"
    ]


def test_the_longest_row_goes_through_at_once_whatever_the_usual_bound(smollm: BaseFacts) -> None:
    settings, _ = settle(Options(), Lora(), smollm, Machine(2, 10**12, 10**11), [(5000, 100)] * 10)
    assert settings.most_tokens == 5000


def test_raw_text_is_cut_and_chats_are_not(smollm: BaseFacts) -> None:
    assert longest(Options(), smollm, in_pieces=False).value == 8192
    assert longest(Options(), smollm, in_pieces=True).value == 1024
    assert longest(Options(max_length=300), smollm, in_pieces=True).value == 300


def test_a_gpu_is_used_and_named(tmp_path: Path) -> None:
    facts = BaseFacts.read(save(tmp_path))
    machine = Machine(8, 10**11, 10**11, "Some GPU", 10**11)
    settings, values = settle(Options(), Lora(), facts, machine, [(80, 40)] * 100)
    assert settings.device == "cuda"
    assert values[0] == Chosen("device", "cuda", "Some GPU")
