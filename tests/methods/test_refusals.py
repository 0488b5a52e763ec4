"""What a method refuses, from the config alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiny.models import save
from tunesmith.errors import RecipeError
from tunesmith.machine import Machine
from tunesmith.methods.full import Full
from tunesmith.methods.lora import Lora
from tunesmith.weights.facts import BaseFacts

MACHINE = Machine(2, 10**10, 10**11)


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> BaseFacts:
    folder = save(tmp_path_factory.mktemp("base"))
    (folder / "model.safetensors").unlink()  # nothing here may need the weights
    return BaseFacts.read(folder)


def codes(method: Lora, facts: BaseFacts) -> list[str]:
    return [fault.code for fault in method.refuse(facts, MACHINE)]


def test_a_layer_that_the_base_has_not_is_named_with_the_nearest(facts: BaseFacts) -> None:
    (fault,) = Lora(targets=("q_porj",)).refuse(facts, MACHINE)
    assert fault.code == "method/unknown-target"
    assert fault.fix.startswith("did you mean 'q_proj'?")
    assert "down_proj" in fault.fix


def test_all_faults_come_at_once(facts: BaseFacts) -> None:
    found = codes(Lora(targets=("nonsense", "lm_head", "q_proj"), rank=500), facts)
    assert found == ["method/unknown-target", "method/rank-too-wide"]


def test_no_target_at_all_is_refused(facts: BaseFacts) -> None:
    assert codes(Lora(targets=()), facts) == ["method/no-targets"]


def test_a_rank_as_wide_as_the_layer_is_the_most(facts: BaseFacts) -> None:
    assert codes(Lora(rank=32), facts) == []
    (fault,) = Lora(rank=33).refuse(facts, MACHINE)
    assert fault.code == "method/rank-too-wide"
    assert "32" in fault.fix


def test_embedding_and_head_may_be_targets_tied_or_not(facts: BaseFacts, tmp_path: Path) -> None:
    apart = BaseFacts.read(save(tmp_path, tie_word_embeddings=False))
    for one in (facts, apart):
        assert codes(Lora(targets=("q_proj", "embed_tokens", "lm_head")), one) == []


def test_a_base_without_linear_layers_is_refused(tmp_path: Path) -> None:
    from transformers import GPT2Config

    GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=64).save_pretrained(tmp_path)
    assert codes(Lora(), BaseFacts.read(tmp_path)) == ["method/no-linear-layers"]


def test_full_tuning_refuses_nothing(facts: BaseFacts) -> None:
    assert Full().refuse(facts, MACHINE) == []


@pytest.mark.parametrize("bad", [{"rank": 0}, {"alpha": -1}, {"dropout": 1.0}, {"targets": "some"}, {"rnak": 3}])
def test_options_that_make_no_sense_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        Lora(**bad)  # type: ignore[arg-type]


def test_trainable_weights_of_a_known_model_by_formula(tmp_path: Path) -> None:
    """Mistral-7B, rank 16 on q_proj and v_proj: 32 layers x 16 x (4096 + 4096 + 4096 + 1024)."""
    from transformers import MistralConfig

    MistralConfig().save_pretrained(tmp_path)
    facts = BaseFacts.read(tmp_path)
    assert Lora(rank=16, targets=("q_proj", "v_proj")).trainable(facts) == 32 * 16 * (4096 * 3 + 1024) == 6_815_744
    assert Full().trainable(facts) == facts.n_parameters == 7_241_732_096


def test_an_adapter_names_its_base_and_loads_with_plain_peft(tmp_path: Path) -> None:
    import torch
    from peft import PeftConfig, PeftModel

    from tunesmith.learn.agree import gap, logprobs
    from tunesmith.weights.load import load

    base = save(tmp_path / "base")
    method = Lora(rank=4, targets=("q_proj",))
    model = load(base)
    model.name_or_path = "someone/base"
    wrapped = method.wrap(model, BaseFacts.read(base))
    with torch.no_grad():
        for weight in wrapped.parameters():
            if weight.requires_grad:
                weight.normal_(std=0.1)
    method.save(wrapped, tmp_path / "adapter")
    assert PeftConfig.from_pretrained(str(tmp_path / "adapter")).base_model_name_or_path == "someone/base"
    theirs = PeftModel.from_pretrained(load(base), str(tmp_path / "adapter"))
    asked = [(1, 5, 9, 12)]
    assert gap(logprobs(theirs, asked), logprobs(wrapped, asked)) == 0


def test_an_adapter_of_other_layers_is_not_put_into_this_model(tmp_path: Path) -> None:
    from tunesmith.weights.load import load

    base = save(tmp_path / "base")
    facts, method = BaseFacts.read(base), Lora(rank=4, targets=("q_proj",))
    method.save(method.wrap(load(base), facts), tmp_path / "adapter")
    other = Lora(rank=4, targets=("v_proj",))
    with pytest.raises((ValueError, RuntimeError)):
        other.load(other.wrap(load(base), facts), tmp_path / "adapter")
