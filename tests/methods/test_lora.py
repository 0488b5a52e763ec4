"""LoRA and its variants, against what their papers' formulas give by hand, and against plain PEFT."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tiny.models import save
from tiny.settings import settings
from tunesmith.errors import LearnError
from tunesmith.learn import optimizer
from tunesmith.learn.agree import gap, logprobs
from tunesmith.methods.lora import Lora
from tunesmith.weights import estimate
from tunesmith.weights import save as saving
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load

ASKED = [(1, 5, 9, 12, 40, 7), (3, 3, 250)]
VARIANTS = ("plain", "rslora", "dora", "pissa")
Q = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"), initializer_range=0.15)


def wrapped(method: Lora, base: Path, dtype: torch.dtype = torch.float32) -> Any:
    return method.wrap(load(base, dtype), BaseFacts.read(base))


def learnt(method: Lora, base: Path, dtype: torch.dtype = torch.float32, seed: int = 1) -> Any:
    """A wrapped model all of whose learnt weights have moved."""
    model = wrapped(method, base, dtype)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.05)
    return model


def parts(model: nn.Module, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """W, A and B of a layer, as float32."""
    layer: Any = model.get_submodule(f"base_model.model.{name}")
    pair = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    return layer.base_layer.weight.detach().clone(), pair[0].detach().clone(), pair[1].detach().clone()


@pytest.mark.parametrize(("variant", "strength"), [("plain", 12 / 4), ("rslora", 12 / math.sqrt(4))])
def test_the_update_counts_alpha_over_rank_times_or_over_its_root(variant: Any, strength: float, base: Path) -> None:
    method = Lora(rank=4, alpha=12, variant=variant, targets=("q_proj",))
    model = learnt(method, base)
    w, a, b = parts(model, Q)
    at_rest = method.settle(model).get_submodule(Q).weight
    assert torch.allclose(at_rest, w + strength * b @ a, atol=1e-6)


def test_dora_scales_each_row_to_its_learnt_length(base: Path) -> None:
    method = Lora(rank=4, alpha=8, variant="dora", targets=("q_proj",))
    model = learnt(method, base)
    w, a, b = parts(model, Q)
    length = model.get_submodule(f"base_model.model.{Q}").lora_magnitude_vector["default"].weight.detach().clone()
    turned = w + 2 * b @ a
    at_rest = method.settle(model).get_submodule(Q).weight
    assert torch.allclose(at_rest, length[:, None] * turned / turned.norm(dim=1, keepdim=True), atol=1e-6)


def test_with_lora_plus_a_step_of_equal_gradients_moves_b_sixteen_times_as_far_as_a(base: Path) -> None:
    method = Lora(rank=4, b_rate=16)
    model = wrapped(method, base)
    moving = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    before = {name: weight.detach().clone() for name, weight in moving.items()}
    told = settings(weight_decay=0.0)
    moves = optimizer.make(model, told, method.rates(model))
    optimizer.set_rate(moves, 1e-3)
    for weight in moving.values():
        weight.grad = torch.full_like(weight, 0.3)
    moves.step()
    far = {name: (weight.detach() - before[name]).abs() for name, weight in moving.items()}
    for name, moved in far.items():
        assert torch.allclose(moved, torch.tensor(16e-3 if "lora_B" in name else 1e-3), rtol=1e-3), name
    assert Lora(rank=4).rates(model) == {}


def test_an_update_of_a_tied_head_moves_the_head_alone(base: Path, tmp_path: Path) -> None:
    method = Lora(rank=4, alpha=4, targets=("lm_head",))
    own = load(base).get_input_embeddings().weight
    model = learnt(method, base)
    tuned = logprobs(model, ASKED)
    _, a, b = parts(model, "lm_head")
    at_rest = method.settle(model)
    assert torch.equal(at_rest.get_input_embeddings().weight, own)
    assert torch.allclose(at_rest.get_output_embeddings().weight, own + b @ a, atol=1e-6)
    assert at_rest.config.tie_word_embeddings is False
    saving.save(at_rest, base, tmp_path)
    assert "lm_head.weight" in load_file(tmp_path / "model.safetensors")
    assert gap(logprobs(load(tmp_path), ASKED), tuned) < 1e-5
    facts = BaseFacts.read(base)
    assert BaseFacts.read(tmp_path).n_parameters == facts.n_parameters + method.footprint(facts).n_added


def test_an_update_of_a_tied_embedding_leaves_the_head_as_it_was(base: Path, tmp_path: Path) -> None:
    method = Lora(rank=4, alpha=4, targets=("embed_tokens",))
    own = load(base).get_input_embeddings().weight
    model = learnt(method, base)
    tuned = logprobs(model, ASKED)
    at_rest = method.settle(model)
    assert torch.equal(at_rest.get_output_embeddings().weight, own)
    assert not torch.equal(at_rest.get_input_embeddings().weight, own)
    saving.save(at_rest, base, tmp_path)
    assert gap(logprobs(load(tmp_path), ASKED), tuned) < 1e-5


def test_a_base_stays_tied_where_neither_end_is_a_target(base: Path) -> None:
    method = Lora(rank=4)
    assert method.footprint(BaseFacts.read(base)).n_added == 0
    at_rest = method.settle(learnt(method, base))
    assert at_rest.get_output_embeddings().weight is at_rest.get_input_embeddings().weight


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("targets", ["all-linear", ("v_proj", "embed_tokens", "lm_head")])
def test_plain_peft_puts_the_adapter_on_the_base_as_it_is(
    variant: Any, targets: Any, base: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    if variant == "dora" and targets != "all-linear":
        targets = ("v_proj", "embed_tokens")  # the base's head has a row of zeros, that of the padding
    method = Lora(rank=4, variant=variant, targets=targets)
    model = learnt(method, base)
    method.save(model, tmp_path)
    theirs = PeftModel.from_pretrained(load(base), str(tmp_path))
    assert gap(logprobs(theirs, ASKED), logprobs(model, ASKED)) < 1e-5
    assert gap(logprobs(load(base), ASKED), logprobs(model, ASKED)) > 1e-2
    facts = BaseFacts.read(base)
    n_kept = sum(weight.numel() for weight in load_file(tmp_path / "adapter_model.safetensors").values())
    assert n_kept == method.trainable(facts) + method.footprint(facts).n_kept


def test_pissa_takes_the_strongest_parts_out_of_the_base(base: Path) -> None:
    method = Lora(rank=8, variant="pissa", targets=("q_proj",))
    own = load(base).get_submodule(Q).weight.detach()
    strengths = torch.linalg.svdvals(own)
    w, a, b = parts(wrapped(method, base), Q)
    left = torch.linalg.svdvals(w)
    assert torch.allclose(torch.linalg.svdvals(4 * b @ a)[:8], strengths[:8], rtol=0.03)  # found by 16 rounds, not all
    assert left.square().sum() == pytest.approx(float(strengths[8:].square().sum()), rel=0.01)
    assert torch.allclose(w + 4 * b @ a, own, atol=1e-6)


def test_pissa_begins_the_same_whatever_was_drawn_before_and_draws_nothing_itself(base: Path) -> None:
    method = Lora(rank=8, variant="pissa")
    torch.manual_seed(1)
    one = wrapped(method, base)
    after = torch.rand(1)
    torch.manual_seed(1)
    load(base)
    assert torch.equal(after, torch.rand(1))
    torch.manual_seed(2)
    other = wrapped(method, base)
    for (name, first), (_, second) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(first, second), name


def test_pissa_of_another_beginning_is_put_back_as_it_was(base: Path, tmp_path: Path) -> None:
    """The base in bfloat16 has other strongest parts than in float32, if a little: those of the file hold."""
    method = Lora(rank=8, variant="pissa")
    tuned = learnt(method, base, torch.bfloat16)
    method.save(tuned, tmp_path / "kept")
    other = wrapped(method, base)
    unlike = parts(other, Q)[1]
    method.load(other, tmp_path / "kept")
    method.save(other, tmp_path / "again")
    kept, again = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("kept", "again"))
    assert all(torch.equal(kept[name], again[name]) for name in kept)
    assert not torch.equal(unlike, kept[f"base_model.model.{Q}.lora_A.weight"][8:])
    w, a, b = parts(other, Q)
    first = {letter: kept[f"base_model.model.{Q}.lora_{letter}.weight"] for letter in "AB"}
    own = load(base).get_submodule(Q).weight.detach()
    assert torch.allclose(w + 4 * b @ a, own + 4 * first["B"] @ first["A"], atol=1e-5)


def test_pissa_is_quick_for_wide_layers(tmp_path: Path) -> None:
    """Two layers of 2048 x 4096: 30 s and more by whole decompositions."""
    base = save(tmp_path, hidden_size=2048, intermediate_size=4096, num_hidden_layers=1)
    method = Lora(variant="pissa", targets=("gate_proj", "down_proj"))
    model, facts = load(base), BaseFacts.read(base)
    began = time.process_time()
    method.wrap(model, facts)
    assert time.process_time() - began < 15


@pytest.mark.parametrize("family", ["qwen3", "gemma3_text", "mistral"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_embedding_and_head_come_to_rest_in_other_families(family: str, variant: Any, tmp_path: Path) -> None:
    base = save(tmp_path, family, initializer_range=0.15, tie_word_embeddings=variant != "dora")
    method = Lora(rank=4, variant=variant, targets=("embed_tokens", "lm_head", "o_proj"))
    assert method.refuse(BaseFacts.read(base), None) == []  # type: ignore[arg-type]
    model = learnt(method, base)
    tuned = logprobs(model, ASKED)
    assert gap(logprobs(method.settle(model), ASKED), tuned) < 2e-5


def test_dora_says_no_to_a_matrix_with_rows_of_zeros(tmp_path: Path) -> None:
    base = save(tmp_path)
    assert not load(base).get_output_embeddings().weight[0].any()
    with pytest.raises(LearnError) as raised:
        wrapped(Lora(rank=4, variant="dora", targets=("q_proj", "lm_head")), base)
    (fault,) = raised.value.faults
    assert fault.code == "method/rows-without-length"
    assert fault.fix.startswith("leave lm_head out of method.targets")
    wrapped(Lora(rank=4, variant="dora", targets=("q_proj", "embed_tokens")), base)
    wrapped(Lora(rank=4, targets=("lm_head",)), base)


def test_a_head_of_its_own_is_refused_where_llama_cpp_knows_none(tmp_path: Path) -> None:
    from transformers import GemmaConfig

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "head_dim": 16, "vocab_size": 50}
    GemmaConfig(**shape, num_hidden_layers=1, architectures=["GemmaForCausalLM"]).save_pretrained(tmp_path)
    facts = BaseFacts.read(tmp_path)
    head = Lora(rank=4, targets=("lm_head",)).delivers(facts)
    assert {name for name, one in head.items() if one.kind == "refused"} == {"gguf", "ollama"}
    assert all(one.kind == "exact" for one in Lora(rank=4).delivers(facts).values())


def test_what_a_variant_needs_besides_is_reckoned(tmp_path: Path) -> None:
    from transformers import MistralConfig

    MistralConfig().save_pretrained(tmp_path)
    facts = BaseFacts.read(tmp_path)
    chosen = {"rank": 16, "targets": ("q_proj", "v_proj")}
    plain, dora, pissa = (Lora(**chosen, variant=one) for one in ("plain", "dora", "pissa"))  # type: ignore[arg-type]
    assert dora.trainable(facts) - plain.trainable(facts) == 32 * (4096 + 1024)
    assert dora.footprint(facts).n_left == 3 * (4096 + 1024)
    assert pissa.trainable(facts) == plain.trainable(facts) == pissa.footprint(facts).n_kept
    assert plain.footprint(facts).n_kept == 0
    loads = [estimate.Load.of(one, facts, "bfloat16", 512) for one in (plain, pissa)]
    assert estimate.disk_bytes(facts, loads[1], "bfloat16") - estimate.disk_bytes(facts, loads[0], "bfloat16") == (
        3 * 4 * plain.trainable(facts)
    )
    assert estimate.standing_bytes(loads[1]) - estimate.standing_bytes(loads[0]) == 4 * plain.trainable(facts)


@pytest.mark.parametrize(
    ("options", "lowest"),
    [
        ({}, 0),
        ({"targets": ("q_proj",)}, 0),
        ({"targets": ("layers.1.mlp.up_proj",)}, 1),
        ({"targets": ("layers.1.mlp.up_proj", "embed_tokens")}, 0),
    ],
)
def test_the_backward_pass_ends_at_the_lowest_target(options: dict[str, Any], lowest: int, tmp_path: Path) -> None:
    assert Lora(rank=2, **options).footprint(BaseFacts.read(save(tmp_path))).lowest == lowest
