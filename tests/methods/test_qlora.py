"""QLoRA: what stands in four bits, by hand; and the traps of bitsandbytes and of PEFT's merge, each seen shut."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tiny.models import save
from tiny.moved import shaken
from tunesmith.learn.agree import gap, logprobs
from tunesmith.machine import Machine
from tunesmith.methods.lora import Lora
from tunesmith.methods.qlora import Qlora
from tunesmith.weights import estimate, nf4
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load

MACHINE = Machine(2, 10**10, 10**11)
ASKED = [(1, 5, 9, 12, 40, 7), (3, 3, 250)]
BELOW = (-1.0, -0.69619, -0.52507, -0.39492, -0.28444, -0.18477, -0.09105)
LEVELS = torch.tensor([*BELOW, 0.0, 0.07958, 0.16093, 0.24611, 0.33792, 0.44071, 0.56262, 0.72296, 1.0])
"""NF4, of the paper's appendix E."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"), initializer_range=0.15)


def wrapped(base: Path, method: Qlora | None = None, dtype: torch.dtype = torch.float32) -> Any:
    return (method or Qlora(rank=8)).wrap(load(base, dtype), BaseFacts.read(base))


def learnt(base: Path, method: Qlora) -> Any:
    return shaken(wrapped(base, method))


def in_four_bits(model: nn.Module) -> dict[str, Tensor]:
    """The weights of the layers in NF4 by the names of the base."""
    names = {name: name.removeprefix("base_model.model.").removesuffix(".base_layer") for name in nf4.layers(model)}
    return {short: nf4.weight_of(model.get_submodule(name)) for name, short in names.items()}


def test_each_weight_is_the_nearest_level_of_its_block(base: Path) -> None:
    own = load(base)
    for name, weight in in_four_bits(wrapped(base)).items():
        rounded = own.get_submodule(name).weight.detach().bfloat16().float()
        blocks, were = weight.reshape(-1, 64), rounded.reshape(-1, 64)
        scale = blocks.abs().amax(1, keepdim=True)
        assert torch.allclose(scale, were.abs().amax(1, keepdim=True), rtol=0.02), name  # itself in eight bits
        apart = (blocks / scale)[..., None] - LEVELS
        assert apart.abs().amin(-1).max() < 1e-4, name
        gaps = ((were / were.abs().amax(1, keepdim=True))[..., None] - LEVELS).abs()
        taken = apart.abs().argmin(-1, keepdim=True)
        assert (gaps.gather(-1, taken) <= gaps.amin(-1, keepdim=True) + 1e-3).all(), name


def test_it_begins_as_the_base_that_the_four_bits_tell(base: Path) -> None:
    model = wrapped(base)
    told = load(base)
    with torch.no_grad():
        for name, weight in in_four_bits(model).items():
            told.get_submodule(name).weight.copy_(weight)
    assert gap(logprobs(model, ASKED), logprobs(told, ASKED)) < 1e-5
    assert gap(logprobs(model, ASKED), logprobs(load(base), ASKED)) > 1e-2


def test_all_linear_layers_stand_in_four_bits_and_both_ends_stay(base: Path) -> None:
    model = wrapped(base, Qlora(rank=4, targets=("q_proj",)))
    linear = set(BaseFacts.read(base).linear_shapes)
    assert set(in_four_bits(model)) == linear - {"lm_head"}
    own = load(base).get_input_embeddings().weight
    assert torch.equal(model.get_input_embeddings().weight, own)
    assert torch.equal(model.get_output_embeddings().weight, own)


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_the_four_bits_are_the_same_whatever_type_the_base_was_loaded_in(
    stored: str, base: Path, tmp_path: Path
) -> None:
    load(base, getattr(torch, stored)).save_pretrained(tmp_path)
    facts = BaseFacts.read(base)
    one, other = (
        in_four_bits(Qlora(rank=4).wrap(load(tmp_path, dtype), facts)) for dtype in (torch.float32, torch.bfloat16)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert len(one) == 14


def gradients(model: nn.Module) -> list[Tensor]:
    model.train().zero_grad()
    model(input_ids=torch.tensor([ASKED[0]])).logits.log_softmax(-1)[..., 7].sum().backward()
    return [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]


def test_gradients_after_an_evaluation_are_those_of_before(base: Path) -> None:
    """On processors with AVX512-BF16 bitsandbytes packs the weights in the first evaluation, and for good."""
    model = learnt(base, Qlora(rank=4))
    before = gradients(model)
    told = logprobs(model, ASKED)
    after = gradients(model)
    assert len(before) == 2 * 14
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert gap(logprobs(model, ASKED), told) == 0


def test_an_evaluation_computes_as_learning_does(base: Path) -> None:
    model = learnt(base, Qlora(rank=4)).train()
    ids = torch.tensor([ASKED[0]])
    learning = model(input_ids=ids).logits.log_softmax(-1)[0]
    assert gap([learning.detach()], logprobs(model, ASKED[:1])) < 1e-6


def test_at_rest_the_update_is_added_to_the_four_bits_and_nothing_is_quantised_again(base: Path) -> None:
    method = Qlora(rank=4, alpha=8, targets=("q_proj",))
    model = learnt(base, method)
    tuned, were = logprobs(model, ASKED), in_four_bits(model)
    name = "model.layers.1.self_attn.q_proj"
    layer: Any = model.get_submodule(f"base_model.model.{name}")
    change = 2 * layer.lora_B["default"].weight.detach() @ layer.lora_A["default"].weight.detach()
    at_rest = method.settle(model)
    assert torch.allclose(at_rest.get_submodule(name).weight, were[name] + change, atol=1e-6)
    assert torch.equal(at_rest.get_submodule("model.layers.1.mlp.up_proj").weight, were["model.layers.1.mlp.up_proj"])
    assert {type(module) for module in at_rest.modules() if isinstance(module, nn.Linear)} == {nn.Linear}
    assert {weight.dtype for weight in at_rest.parameters()} == {torch.float32}
    assert gap(logprobs(at_rest, ASKED), tuned) < 1e-5


def test_a_checkpoint_has_the_adapter_alone_and_the_adapter_names_its_base(base: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    method = Qlora(rank=4)
    model = load(base)
    model.name_or_path = "someone/base"
    tuned = method.wrap(model, BaseFacts.read(base))
    method.save(tuned, tmp_path)
    kept = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(weight.numel() for weight in kept.values()) == method.trainable(BaseFacts.read(base))
    assert all(".lora_A." in name or ".lora_B." in name for name in kept)
    told = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert (told["base_model_name_or_path"], told["r"]) == ("someone/base", 4)
    PeftModel.from_pretrained(load(base), str(tmp_path))  # and plain PEFT can read it


def test_widths_that_no_block_fits_learn_and_rest_like_others(tmp_path: Path) -> None:
    odd = {"hidden_size": 36, "intermediate_size": 51, "num_attention_heads": 2, "num_key_value_heads": 1}
    base = save(tmp_path, **odd, head_dim=18, initializer_range=0.15)
    method = Qlora(rank=4)
    assert method.refuse(BaseFacts.read(base), MACHINE) == []
    model = learnt(base, method)
    assert all(one.isfinite().all() and one.any() for one in gradients(model))
    tuned = logprobs(model, ASKED)
    assert gap(logprobs(method.settle(model), ASKED), tuned) < 1e-5


def test_biases_stay_as_they_are(tmp_path: Path) -> None:
    base = save(tmp_path, "qwen2", initializer_range=0.15)
    own = load(base)
    with torch.no_grad():
        for name, weight in own.named_parameters():
            if name.endswith("bias"):
                weight.normal_(std=0.1)
    own.save_pretrained(base)
    method = Qlora(rank=4)
    model = learnt(base, method)
    tuned = logprobs(model, ASKED)
    at_rest = method.settle(model)
    assert gap(logprobs(at_rest, ASKED), tuned) < 1e-5
    name = "model.layers.0.self_attn.q_proj"
    assert torch.equal(at_rest.get_submodule(name).bias, own.get_submodule(name).bias)


def test_the_bytes_of_the_four_bits_are_those_that_are_reckoned(base: Path) -> None:
    model = wrapped(base)
    held = 0
    for layer in nf4.layers(model).values():
        weight: Any = layer.weight
        state = weight.quant_state
        tensors = (weight, state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code)
        held += sum(one.nbytes for one in tensors)
    facts = BaseFacts.read(base)
    footprint = Qlora(rank=8).footprint(facts)
    assert footprint.n_packed == 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128)
    assert held <= footprint.other_bytes <= held + 4 * 14


def test_a_large_base_stands_at_about_half_a_byte_a_weight(tmp_path: Path) -> None:
    """Mistral-7B: 6.98 of its 7.24 billion weights are in the linear layers of the body."""
    from transformers import MistralConfig

    MistralConfig().save_pretrained(tmp_path)
    facts = BaseFacts.read(tmp_path)
    method = Qlora(rank=16, targets=("q_proj", "v_proj"))
    footprint = method.footprint(facts)
    n, bytes_ = footprint.n_packed, footprint.other_bytes
    assert n == 6_979_321_856
    assert bytes_ / n == pytest.approx(0.516, abs=0.002)
    told = estimate.Load.of(method, facts, "bfloat16", 512)
    frozen = estimate.standing_bytes(told) - estimate.PROGRAM - 18 * method.trainable(facts)
    assert frozen == bytes_ + 2 * (facts.n_parameters - n)
    assert frozen < 4.2e9


def test_without_bitsandbytes_it_is_refused_with_the_way_to_get_it(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = BaseFacts.read(base)
    assert Qlora(rank=8).refuse(facts, MACHINE) == []
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    (fault,) = Qlora(rank=8).refuse(facts, MACHINE)
    assert (fault.code, fault.fix) == ("method/no-bitsandbytes", "pip install 'tunesmith[qlora]'")
    assert Lora(rank=8).refuse(facts, MACHINE) == []


@pytest.mark.parametrize(
    "code",
    [
        "from tunesmith.weights import nf4; nf4.library()",
        "from tunesmith.weights import nf4; nf4.tame(); import peft",
        "import tunesmith.weights.merge as m; from pathlib import Path; m.is_adapter(Path('.'));"
        " list(m._kind_faults(Path('.'), {'peft_type': 'LORA'}))",
    ],
)
def test_its_import_fetches_no_kernel_and_says_nothing(code: str, tmp_path: Path) -> None:
    """Where `kernels` is installed and the processor has AVX512-BF16, the import would call it."""
    kernels = "import sys\ndef get_kernel(*_, **__):\n    sys.exit('a kernel was fetched')\n"
    (tmp_path / "kernels.py").write_text(kernels, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    after = f"{code}\nimport sys; assert 'bitsandbytes' in sys.modules; import kernels; kernels.get_kernel"
    done = subprocess.run([sys.executable, "-c", after], capture_output=True, text=True, env=env, check=False)
    assert (done.returncode, done.stderr) == (0, "")
