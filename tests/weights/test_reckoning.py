"""What a run takes, by counting."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.machine import Chosen, Machine, Speed, choose_route, measure
from tunesmith.weights import estimate
from tunesmith.weights.facts import BaseFacts


@pytest.fixture(scope="module")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> BaseFacts:
    """The shape of SmolLM2-135M: a config, and no weights."""
    from transformers import LlamaConfig

    shape = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
    folder = tmp_path_factory.mktemp("shape")
    LlamaConfig(**shape, num_key_value_heads=3, vocab_size=49152, tie_word_embeddings=True).save_pretrained(folder)
    return BaseFacts.read(folder)


def test_arithmetic_of_a_known_model(smollm: BaseFacts) -> None:
    """SmolLM2-135M at 1,024 tokens: 0.93 GFLOP a token for full tuning, 0.58 for LoRA with a quarter learnt."""
    assert smollm.n_parameters == 134_515_008
    full = estimate.Load(smollm.n_parameters, smollm.n_parameters, False, "float32", 1024)
    lora = estimate.Load(smollm.n_parameters, 0, True, "float32", 1024)
    reckon = {"tokens": 1_000_000, "mean_length": 1024.0, "recompute": False}
    assert estimate.flops(smollm, full, learnt=1_000_000, **reckon) / 1e15 == pytest.approx(0.93, rel=0.05)
    assert estimate.flops(smollm, lora, learnt=250_000, **reckon) / 1e15 == pytest.approx(0.58, rel=0.1)


def test_full_tuning_stands_at_sixteen_bytes_a_weight(smollm: BaseFacts) -> None:
    full = estimate.Load(smollm.n_parameters, smollm.n_parameters, False, "float32", 1)
    lora = estimate.Load(smollm.n_parameters, 1_000_000, True, "bfloat16", 1)
    assert estimate.standing_bytes(full) - estimate.PROGRAM == 16 * smollm.n_parameters
    assert estimate.standing_bytes(lora) - estimate.PROGRAM == 2 * smollm.n_parameters + 18_000_000


def test_the_disk_holds_two_checkpoints_and_the_model(smollm: BaseFacts) -> None:
    full = estimate.Load(100, 100, False, "float32", 1)
    more = estimate.disk_bytes(smollm, full, "float32") - estimate.disk_bytes(smollm, full, "bfloat16")
    assert more == 2 * smollm.n_parameters
    assert estimate.disk_bytes(smollm, full, "float32") >= 4 * smollm.n_parameters + 2 * 12 * 100


SOUND = {"float32": 1e-7, "float32-onednn": 5e-7, "bfloat16": 3e-3}


@pytest.mark.parametrize(
    ("gflops", "errors", "asked", "expected"),
    [
        ((320, 300, 167), SOUND, "auto", "float32"),
        ((60, 180, 350), SOUND, "auto", "bfloat16"),
        ((60, 180, 190), SOUND, "auto", "float32-onednn"),
        ((60, 180, 350), SOUND, "float32", "float32-onednn"),
        ((320, 300, 167), SOUND, "bfloat16", "bfloat16"),
        ((60, 180, 350), {**SOUND, "float32-onednn": 3e-3, "bfloat16": 0.5}, "auto", "float32"),
        ((100, 110, 115), SOUND, "auto", "float32"),
    ],
)
def test_the_type_is_the_fastest_that_is_accurate_and_pays(
    gflops: tuple[int, ...], errors: dict[str, float], asked: str, expected: str
) -> None:
    speed = Speed(dict(zip(SOUND, map(float, gflops), strict=True)), errors, 1e10)
    chosen = choose_route(speed, asked)
    assert chosen.value == expected
    assert f"{gflops[0]}" in chosen.why


def test_this_machine_is_measured_in_a_moment_and_its_float32_is_accurate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / name)
    speed = measure(Machine.look(tmp_path))
    assert speed.accurate("float32")
    assert all(value > 0 for value in speed.gflops.values())
    assert isinstance(choose_route(speed), Chosen)


def test_a_look_at_the_machine_finds_what_it_has(tmp_path: Path) -> None:
    machine = Machine.look(tmp_path)
    assert machine.n_cores >= 1
    assert machine.memory_bytes > 10**9
    assert machine.free_disk_bytes > 0
    assert machine.device in ("cpu", "cuda")
