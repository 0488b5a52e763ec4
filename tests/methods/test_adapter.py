"""Bottleneck adapters: what they compute, how those beside an MLP become neurons of it, and where there is no place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from tiny.models import SHAPE, save
from tunesmith.errors import Fault
from tunesmith.learn.attention import attending_per_document
from tunesmith.learn.attention_parts import Laid
from tunesmith.machine import Machine
from tunesmith.methods.adapter import Adapter
from tunesmith.weights import _layers_bottleneck
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load

MACHINE = Machine(2, 10**10, 10**11)
IDS = torch.arange(5, 40)[None]
FORMS = ("parallel", "houlsby", "pfeiffer")
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "biased": ("llama", {"mlp_bias": True}),
    "qwen3": ("qwen3", {}),
    "gemma3": ("gemma3_text", {}),  # its norms stand behind the sub-layers as well, and its MLP has gelu
    "mistral": ("mistral", {"tie_word_embeddings": False}),
    "phi3": ("phi3", {}),  # gate and up are one matrix
}
each_form = pytest.mark.parametrize("form", FORMS)
each_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save(tmp_path / "base")


def moved(method: Adapter, base: Path, by: float = 0.1, dtype: torch.dtype = torch.float32) -> Any:
    """The base with adapters whose weights are far from where they begin."""
    torch.manual_seed(0)
    model = method.wrap(load(base, dtype), BaseFacts.read(base)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += by * torch.randn_like(weight)
            elif weight.dim() == 1:
                weight += 0.01 * torch.randn_like(weight)  # biases begin at zero, and would hide that they are lost
    return model


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(IDS).logits  # type: ignore[no-any-return]


@each_form
@each_family
def test_at_rest_it_answers_as_it_was_trained(family: str, form: Any, tmp_path: Path) -> None:
    name, changes = FAMILIES[family]
    base = save(tmp_path / "base", name, **changes)
    method, facts = Adapter(form=form, size=24, scale=2.0), BaseFacts.read(base)
    assert method.refuse(facts, MACHINE) == []
    model = moved(method, base)
    tuned, own = logits(model), logits(load(base))
    settled = method.settle(model)
    assert (tuned - own).abs().max() > 0.3
    assert (logits(settled) - tuned).abs().max() < 1e-5
    n_more = sum(weight.numel() for weight in settled.parameters()) - facts.n_parameters
    assert n_more == method.footprint(facts).n_added


@each_family
def test_beside_the_mlp_it_leaves_a_plain_model_of_the_same_architecture(family: str, tmp_path: Path) -> None:
    name, changes = FAMILIES[family]
    base = save(tmp_path / "base", name, **changes)
    settled = Adapter(size=24).settle(moved(Adapter(size=24), base))
    settled.save_pretrained(tmp_path / "model")
    again, told = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(told.values())
    assert again.config.intermediate_size == 256
    assert (logits(again) - logits(settled)).abs().max() < 1e-6


def test_the_neurons_are_its_own_then_the_adapter_s_then_zeros(base: Path) -> None:
    method = Adapter(size=24, scale=3.0)
    model = moved(method, base)
    mlp = model.model.layers[1].mlp
    adapter = mlp.adapter
    before = {name: getattr(mlp, name).weight.clone() for name in ("gate_proj", "up_proj", "down_proj")}
    method.settle(model)
    for name, own, more in (("gate_proj", 128, adapter.gate.weight), ("up_proj", 128, adapter.up.weight)):
        weight = getattr(mlp, name).weight
        assert torch.equal(weight, torch.cat([before[name], more, torch.zeros(256 - own - 24, 64)]))
    down = mlp.down_proj.weight
    assert torch.equal(down, torch.cat([before["down_proj"], 3.0 * adapter.down.weight, torch.zeros(64, 104)], 1))


@pytest.mark.parametrize(
    ("inner", "size", "grown"), [(1536, 64, 1792), (1536, 256, 1792), (128, 24, 256), (200, 56, 256)]
)
def test_the_last_block_is_filled_up(inner: int, size: int, grown: int) -> None:
    assert _layers_bottleneck.grown_size(inner, size) == grown


def test_behind_a_sub_layer_it_computes_what_a_hand_computes() -> None:
    one = _layers_bottleneck.Behind(2, 2, "relu", 0.5)
    filled(one.down, [[1.0, 1.0], [1.0, -1.0]], [0.0, 1.0])
    filled(one.up, [[2.0, 0.0], [0.0, 4.0]], [1.0, 0.0])
    # (3, 5): 8 and -2 + 1, of which relu leaves 8 and 0; up gives 17 and 0, and half of it is added
    assert one(torch.tensor([[[3.0, 5.0]]])).tolist() == [[[11.5, 5.0]]]


def test_beside_an_mlp_it_computes_what_a_hand_computes() -> None:
    parts = _layers_bottleneck.Gated("gate_proj", "up_proj", "down_proj", "act_fn")
    one = _layers_bottleneck.Beside(2, 1, parts, nn.ReLU(), 2.0)
    filled(one.gate, [[1.0, 1.0]])
    filled(one.up, [[1.0, -1.0]])
    filled(one.down, [[1.0], [10.0]])
    # of (3, 1): gate 4, up 2, their product 8; twice (8, 80) is added to what the MLP gave
    assert one(torch.tensor([[[3.0, 1.0]]]), torch.tensor([[[1.0, 1.0]]])).tolist() == [[[17.0, 161.0]]]


def filled(layer: Any, weight: list[list[float]], bias: list[float] | None = None) -> None:
    layer.weight.data = torch.tensor(weight)
    if bias is not None:
        layer.bias.data = torch.tensor(bias)


def test_each_form_stands_where_its_paper_has_it(base: Path) -> None:
    places = {form: adapters_of(Adapter(form=form), base) for form in FORMS}
    behind = [f"model.layers.{layer}.{part}" for layer in (0, 1) for part in ("self_attn", "mlp")]
    assert places["houlsby"] == behind
    assert places["pfeiffer"] == places["parallel"] == behind[1::2]


def adapters_of(method: Adapter, base: Path) -> list[str]:
    model = method.wrap(load(base), BaseFacts.read(base))
    return [name.removesuffix(".adapter") for name in _layers_bottleneck.adapters(model)]


def test_an_adapter_behind_a_sub_layer_has_biases_and_the_plan_counts_them(base: Path) -> None:
    each = 2 * (2 * 64 * 8 + 8 + 64)  # layers x (two matrices and their biases)
    assert Adapter(form="houlsby", size=8).moves(BaseFacts.read(base)) == {
        "behind MLPs": each,
        "behind attention": each,
    }
    assert Adapter(form="pfeiffer", size=8).moves(BaseFacts.read(base)) == {"behind MLPs": each}
    assert Adapter(size=8).moves(BaseFacts.read(base)) == {"beside MLPs": 2 * 3 * 64 * 8}


@each_form
def test_documents_end_to_end_do_not_see_each_other(form: Any, base: Path) -> None:
    model = moved(Adapter(form=form), base)
    with torch.no_grad(), attending_per_document(model) as can:
        assert can
        places = torch.cat([torch.arange(20), torch.arange(15)])[None]
        both = model(input_ids=IDS, position_ids=places, documents=(Laid((20, 15)),), use_cache=False).logits
        alone = model(
            input_ids=IDS[:, 20:], position_ids=places[:, 20:], documents=(Laid((15,)),), use_cache=False
        ).logits
    assert torch.allclose(both[:, 20:], alone, atol=1e-5)


@each_form
@pytest.mark.parametrize("auto", [True, False])
def test_over_a_bfloat16_base_hidden_states_keep_their_type(form: Any, auto: bool, base: Path) -> None:
    model = moved(Adapter(form=form), base, dtype=torch.bfloat16)
    seen: list[torch.dtype] = []
    model.model.layers[1].register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=auto):
        near = logits(model).float()
    assert seen == [torch.bfloat16]
    wanted = logits(moved(Adapter(form=form), base))
    assert (near - wanted).norm() < 0.05 * wanted.norm()


def test_what_was_saved_says_what_it_is_and_fits_no_other_size(base: Path, tmp_path: Path) -> None:
    method = Adapter(form="pfeiffer", size=8)
    model = moved(method, base)
    method.save(model, tmp_path / "adapter")
    assert sorted(file.name for file in (tmp_path / "adapter").iterdir()) == ["adapter.json", "adapter.safetensors"]
    told = json.loads((tmp_path / "adapter" / "adapter.json").read_text())
    assert {"kind": "adapter", "form": "pfeiffer", "size": 8, "scale": 1.0, "base": str(base)}.items() <= told.items()
    for other in (Adapter(form="pfeiffer", size=16), Adapter(size=8), Adapter(form="houlsby", size=8)):
        with pytest.raises(ValueError, match="adapters of another model, form or size"):
            other.load(other.wrap(load(base), BaseFacts.read(base)), tmp_path / "adapter")


def test_the_activation_may_be_chosen_behind_a_sub_layer(base: Path) -> None:
    plain, other = (moved(Adapter(form="pfeiffer", activation=one), base) for one in (None, "tanh"))
    assert [type(one.act) for one in _layers_bottleneck.adapters(plain).values()] == [nn.ReLU] * 2
    assert [type(one.act) for one in _layers_bottleneck.adapters(other).values()] == [nn.Tanh] * 2
    (fault,) = Adapter(activation="relu").refuse(BaseFacts.read(base), MACHINE)
    assert fault.code == "method/own-activation"


OTHERS: Mapping[str, Mapping[str, Any]] = {
    "gpt2": {},
    "mixtral": {},
    "opt": {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "bloom": {"n_head": 4, "n_layer": 2},
    "bitnet": {},
    "falcon_h1": {"mlp_multipliers": [0.5, 2.0]},
}


def facts_of(family: str, folder: Path) -> BaseFacts:
    changes = OTHERS[family]
    taken = {key: value for key, value in SHAPE.items() if family != "gpt2" or key != "head_dim"}
    config = AutoConfig.for_model(family, **{**taken, "vocab_size": 100, "pad_token_id": 0, **changes})
    config.architectures = [type(AutoModelForCausalLM.from_config(config)).__name__]
    config.save_pretrained(folder)
    return BaseFacts.read(folder)


def refused(method: Adapter, facts: BaseFacts) -> list[Fault]:
    return method.refuse(facts, MACHINE)


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("gpt2", "not made of gate_proj"),
        ("mixtral", "a mixture of experts"),
        ("bitnet", "has weights besides"),
        ("falcon_h1", "computes something else"),
    ],
)
def test_an_mlp_that_takes_no_neurons_is_refused_and_layers_behind_it_are_not(
    family: str, why: str, tmp_path: Path
) -> None:
    facts = facts_of(family, tmp_path)
    (fault,) = refused(Adapter(), facts)
    assert fault.code == "method/no-parallel-adapter"
    assert why in fault.what
    assert "form: pfeiffer" in fault.fix
    assert refused(Adapter(form="pfeiffer"), facts) == refused(Adapter(form="houlsby"), facts) == []
    assert Adapter(form="pfeiffer").delivers(facts)["gguf"].instead == "lora"


@pytest.mark.parametrize(("family", "why"), [("opt", "no MLP"), ("bloom", "adds the residual itself")])
def test_a_base_without_a_place_is_refused_in_every_form(family: str, why: str, tmp_path: Path) -> None:
    facts = facts_of(family, tmp_path)
    for form in FORMS:
        (fault,) = refused(Adapter(form=form), facts)
        assert fault.code == ("method/no-parallel-adapter" if form == "parallel" else "method/no-adapter-here")
        assert why in fault.what
        assert "pfeiffer" not in fault.fix


def test_mlps_of_a_width_that_the_config_does_not_say_are_refused(tmp_path: Path) -> None:
    # Gemma 3n may have a width for each layer; here the Llama's is one that its config has no single number for
    facts = BaseFacts.read(save(tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_layers_bottleneck, "empty", lambda _: uneven(tmp_path))
        (fault,) = refused(Adapter(), facts)
    assert fault.code == "method/no-parallel-adapter"
    assert "128, 160 wide, and its config says 128" in fault.what


def uneven(folder: Path) -> Any:
    from tunesmith.weights.load import empty

    model: Any = empty(folder)
    mlp = model.model.layers[1].mlp
    mlp.gate_proj, mlp.up_proj = (nn.Linear(64, 160, bias=False, device="meta") for _ in range(2))
    mlp.down_proj = nn.Linear(160, 64, bias=False, device="meta")
    return model


def test_where_it_goes_depends_on_the_form(base: Path) -> None:
    facts = BaseFacts.read(base)
    assert {one.kind for one in Adapter().delivers(facts).values()} == {"exact"}
    for form in ("houlsby", "pfeiffer"):
        told = Adapter(form=form).delivers(facts)
        assert {name for name, one in told.items() if one.kind == "exact"} == {"web"}
        assert {one.instead for one in told.values() if one.kind == "refused"} == {"{kind: adapter, form: parallel}"}
