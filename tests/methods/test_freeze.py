"""Partial tuning: which weights move, what is counted, and where the backward pass ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pytest
import torch
from torch import Tensor, nn

from tiny.models import save, tokenizer
from tiny.rows import random_rows
from tiny.settings import settings
from tunesmith import say
from tunesmith.errors import Fault, RecipeError
from tunesmith.learn.agree import gap, logprobs
from tunesmith.learn.attention import attending_per_document
from tunesmith.learn.loop import learn
from tunesmith.learn.loss import DocumentLoss, recompute_activations
from tunesmith.machine import Machine
from tunesmith.methods.freeze import Freeze
from tunesmith.methods.full import Full
from tunesmith.weights import estimate, places
from tunesmith.weights import save as saving
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import empty, load

MACHINE = Machine(2, 10**10, 10**11)
N_LAYERS = 6
WIDE = {"num_hidden_layers": N_LAYERS, "initializer_range": 0.15}
FAMILIES = ("llama", "qwen3", "gemma3_text", "mistral", "gpt2")
CHOICES = (
    Freeze(),
    Freeze(layers=2, norms=True),
    Freeze(layers=(0, 3, -1), head=True),
    Freeze(layers=0, embeddings=True, head=True, norms=True),
    Freeze(layers=(1,), embeddings=True, names=("*.5.*weight",)),
)


def gpt2(folder: Path) -> Path:
    """A GPT-2: another name for its layers, biases, positions that are learnt, and no linear layer but the head."""
    from transformers import GPT2Config, GPT2LMHeadModel

    words = tokenizer()
    torch.manual_seed(0)
    ends = {"bos_token_id": None, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    shape = GPT2Config(n_embd=64, n_layer=N_LAYERS, n_head=4, n_positions=128, vocab_size=len(words), **ends)
    GPT2LMHeadModel(shape).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: save(tmp_path_factory.mktemp(name), name, **WIDE) for name in FAMILIES if name != "gpt2"}
    return {**made, "gpt2": gpt2(tmp_path_factory.mktemp("gpt2"))}


@pytest.fixture(scope="module")
def facts(bases: dict[str, Path]) -> BaseFacts:
    return BaseFacts.read(bases["llama"])


def moving(model: nn.Module) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


def wrapped(method: Freeze, base: Path) -> Any:
    return method.wrap(load(base), BaseFacts.read(base))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", CHOICES, ids=str)
def test_what_is_counted_is_what_moves(method: Freeze, family: str, bases: dict[str, Path]) -> None:
    base = BaseFacts.read(bases[family])
    model = wrapped(method, base.folder)
    moves = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert sum(method.moves(base).values()) == method.trainable(base) == moves > 0
    assert base.n_parameters + method.footprint(base).n_added == sum(weight.numel() for weight in model.parameters())
    assert method.refuse(base, MACHINE) == []


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        (0.25, ["layers 4-5"]),  # a quarter of six is one and a half
        (0.5, ["layers 3-5"]),
        (0.99, ["layers 0-5"]),
        (1, ["layer 5"]),
        (6, ["layers 0-5"]),
        ((0, 1, 3, -1), ["layers 0-1", "layer 3", "layer 5"]),
        ((5, -1, 5), ["layer 5"]),
    ],
)
def test_layers_are_chosen_by_share_by_number_and_by_list(layers: Any, said: list[str], facts: BaseFacts) -> None:
    method = Freeze(layers=layers)
    assert list(method.moves(facts)) == said
    of_each = {name.split(".")[2] for name in moving(wrapped(method, facts.folder))}
    assert len(of_each) == sum(1 + (int(b or a) - int(a)) for a, _, b in (ends(one) for one in said))


def ends(words: str) -> tuple[str, str, str]:
    return words.split()[1].partition("-")


def test_a_share_of_thirty_layers_is_what_a_hand_counts(tmp_path: Path) -> None:
    """SmolLM2-135M: a quarter of 30 layers, rounded up, is 8, of 3,540,096 weights each."""
    from transformers import LlamaConfig

    shape = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
    LlamaConfig(**shape, num_key_value_heads=3, vocab_size=49152, tie_word_embeddings=True).save_pretrained(tmp_path)
    layer = 576 * 576 * 2 + 576 * 192 * 2 + 3 * 576 * 1536 + 2 * 576
    base = BaseFacts.read(tmp_path)
    assert Freeze().moves(base) == {"layers 22-29": 8 * layer}
    assert Freeze(layers=0.1).moves(base) == {"layers 27-29": 3 * layer}
    assert Freeze(layers=0, head=True, norms=True).moves(base) == {"norms": 61 * 576, "head": 49152 * 576}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_norms_are_all_norms(family: str, bases: dict[str, Path]) -> None:
    a_layer = {"llama": 2, "mistral": 2, "qwen3": 4, "gemma3_text": 6, "gpt2": 4}[family]  # with biases in GPT-2
    last = 2 if family == "gpt2" else 1
    names = moving(wrapped(Freeze(layers=0, norms=True), bases[family]))
    assert len(names) == N_LAYERS * a_layer + last
    assert all("norm" in name or ".ln_" in name for name in names)


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_of_a_tied_base_move_both_ends_as_one_weight(family: str, bases: dict[str, Path]) -> None:
    base = BaseFacts.read(bases[family])
    one = base.vocab_size * 64
    found = Freeze(layers=0, embeddings=True).moves(base)
    assert found == Freeze(layers=0, embeddings=True, head=True).moves(base)
    assert found["embeddings and head, one weight"] == one
    assert found.get("embeddings", 0) == (128 * 64 if family == "gpt2" else 0)  # the positions
    model = wrapped(Freeze(layers=0, embeddings=True, head=True), base.folder)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight


def test_ends_that_are_two_weights_move_each_for_itself(tmp_path: Path) -> None:
    base = BaseFacts.read(save(tmp_path, tie_word_embeddings=False))
    one = base.vocab_size * 64
    assert Freeze(layers=0, embeddings=True).moves(base) == {"embeddings": one}
    assert Freeze(layers=0, head=True).moves(base) == {"head": one}
    assert Freeze(layers=0, head=True, embeddings=True).moves(base) == {"embeddings": one, "head": one}
    assert Freeze(layers=0, head=True).footprint(base).n_added == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tied_head_that_moves_alone_is_a_weight_of_its_own_from_then_on(
    family: str, bases: dict[str, Path], tmp_path: Path
) -> None:
    base = BaseFacts.read(bases[family])
    method = Freeze(layers=0, head=True)
    model = wrapped(method, base.folder)
    assert moving(model) == {"lm_head.weight"}
    asked = [(5, 6, 7, 8)]
    assert gap(logprobs(model, asked), logprobs(load(base.folder), asked)) == 0
    with torch.no_grad():
        model.get_output_embeddings().weight.add_(0.05 * torch.randn(base.vocab_size, 64))
    settled = method.settle(model)
    told = logprobs(settled, asked)
    saving.save(settled, base.folder, tmp_path / "model")
    back = BaseFacts.read(tmp_path / "model")
    assert not back.tied
    assert method.footprint(base).n_added == base.vocab_size * 64 == back.n_parameters - base.n_parameters
    assert gap(logprobs(load(back.folder), asked), told) == 0
    assert gap(told, logprobs(load(base.folder), asked)) > 1e-3
    assert torch.equal(load(back.folder).get_input_embeddings().weight, load(base.folder).get_input_embeddings().weight)


def test_a_weight_that_is_chosen_twice_counts_once(facts: BaseFacts) -> None:
    every = Freeze(layers=6, embeddings=True, head=True, norms=True, names=("*", "*.v_proj.*"))
    assert every.moves(facts)["norms"] == 64
    assert "*" not in every.moves(facts)
    assert every.trainable(facts) == facts.n_parameters == Full().trainable(facts)


def test_weights_move_by_patterns_of_their_names(facts: BaseFacts) -> None:
    method = Freeze(layers=0, names=("model.layers.[01].*.v_proj.*", "*.q_proj.weight"))
    assert list(method.moves(facts)) == ["*.q_proj.weight", "model.layers.[01].*.v_proj.*"]
    assert len(moving(wrapped(method, facts.folder))) == 6 + 2


def test_what_is_frozen_stays_as_it_comes(facts: BaseFacts) -> None:
    model = Freeze().wrap(load(facts.folder, torch.bfloat16), facts)
    kinds = {(weight.dtype, weight.requires_grad) for weight in model.parameters()}
    assert kinds == {(torch.bfloat16, False), (torch.float32, True)}


def test_only_what_moves_is_kept(facts: BaseFacts, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    method = Freeze(layers=1)
    model = wrapped(method, facts.folder)
    method.save(model, tmp_path)
    assert set(load_file(tmp_path / "weights.safetensors")) == moving(model)
    for other in (Freeze(layers=2), Freeze(layers=(0,)), Freeze(layers=0, names=("*.5.*.v_proj.*",))):
        with pytest.raises((KeyError, ValueError)):
            other.load(wrapped(other, facts.folder), tmp_path)


class Kept:
    """A tensor that autograd keeps for as long as this object is kept."""

    def __init__(self, tensor: Tensor, layer: int | None) -> None:
        self.tensor = tensor
        self.layer = layer


def by_layer(kept: WeakSet[Kept]) -> dict[int | None, int]:
    """Bytes that are still kept, by the layer that was going forward; None: before, between and after."""
    found: dict[int | None, int] = {}
    for one in kept:
        found[one.layer] = found.get(one.layer, 0) + one.tensor.nbytes
    return found


@contextmanager
def watched(model: Any, n_layers: int) -> Iterator[WeakSet[Kept]]:
    """What autograd keeps of what goes through the layers, weights left out."""
    stack = places.layers_of(model, n_layers)
    assert stack is not None
    at: list[int | None] = [None]
    kept: WeakSet[Kept] = WeakSet()
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}

    def enter(number: int | None) -> Callable[..., None]:
        def note(*_: Any) -> None:
            at[0] = number

        return note

    def note(tensor: Tensor) -> Kept:
        one = Kept(tensor, at[0])
        if tensor.untyped_storage().data_ptr() not in weights:
            kept.add(one)
        return one

    hooks = [layer.register_forward_pre_hook(enter(number)) for number, layer in enumerate(stack)]
    hooks += [layer.register_forward_hook(enter(None)) for layer in stack]
    with torch.autograd.graph.saved_tensors_hooks(note, lambda one: one.tensor):
        yield kept
    for hook in hooks:
        hook.remove()


LOWEST = (
    (Freeze(layers=1), 5),
    (Freeze(), 4),
    (Freeze(layers=(2, 5)), 2),
    (Freeze(layers=1, head=True, names=("*.3.*",)), 3),
    (Freeze(layers=0, head=True), 6),
    (Freeze(layers=1, embeddings=True), 0),
    (Freeze(layers=1, norms=True), 0),
)


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2"])
@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("method", "lowest"), LOWEST, ids=str)
def test_nothing_is_kept_below_the_lowest_weight_that_moves(
    method: Freeze, lowest: int, recompute: bool, family: str, bases: dict[str, Path]
) -> None:
    base = BaseFacts.read(bases[family])
    assert method.footprint(base).lowest == lowest
    model = wrapped(method, base.folder)
    if recompute:
        recompute_activations(model)
    model.train()
    asks: dict[int, bool] = {}
    stack = places.layers_of(model, N_LAYERS)
    assert stack is not None
    for number, layer in enumerate(stack):

        def look(_: nn.Module, __: Any, out: Any, number: int = number) -> None:
            asks.setdefault(number, (out[0] if isinstance(out, tuple) else out).requires_grad)

        layer.register_forward_hook(look)
    with attending_per_document(model) as together:
        loss = DocumentLoss(model, together=together)
        asks.clear()
        with watched(model, N_LAYERS) as seen:
            held = loss(random_rows((20, 30)))
            kept = by_layer(seen)
        held.backward()
    assert asks == {number: number >= lowest for number in range(N_LAYERS)}
    assert [number for number in range(lowest) if number in kept] == []
    assert lowest == N_LAYERS or sum(kept.values()) > 0
    assert recompute or all(kept[number] for number in range(lowest, N_LAYERS))
    assert {name for name, weight in model.named_parameters() if weight.grad is not None} == moving(model)


@pytest.mark.parametrize(("method", "lowest"), LOWEST, ids=str)
def test_the_memory_estimate_counts_the_layers_that_go_backward(method: Freeze, lowest: int, facts: BaseFacts) -> None:
    model = wrapped(method, facts.folder).train()
    loss = DocumentLoss(model, together=False)
    with watched(model, N_LAYERS) as seen:
        held = loss(random_rows((256,)))
        kept = by_layer(seen)
    told = estimate.Load.of(method, facts, "float32", 256)
    a_token = estimate.token_bytes(facts, told, recompute=False)
    assert sum(kept.values()) <= 256 * a_token + estimate.head_bytes(facts, told, 256)
    assert lowest == N_LAYERS or 256 * a_token < 4 * sum(kept.values()), "a bound that is of some use"
    standing = sum(weight.numel() * (16 if weight.requires_grad else 4) for weight in model.parameters())
    assert estimate.standing_bytes(told) == estimate.PROGRAM + standing
    held.backward()


def test_arithmetic_is_counted_where_it_is_done(tmp_path: Path) -> None:
    """Of 10 layers the last one: the body forward once, a tenth of it back twice; the head is counted at its tokens."""
    from transformers import LlamaConfig

    shape = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 10, "num_attention_heads": 8}
    LlamaConfig(**shape, vocab_size=4096, tie_word_embeddings=True).save_pretrained(tmp_path)
    base = BaseFacts.read(tmp_path)
    layer, head = 4 * 512 * 512 + 3 * 512 * 1024 + 2 * 512, 4096 * 512

    def work(method: Any, recompute: bool = False, below: float | None = None) -> float:
        told = estimate.Load.of(method, base, "float32", 2)
        reckon = {"tokens": 1000, "learnt": 100, "mean_length": 2.0, "recompute": recompute}
        return estimate.flops(base, told, tokens_below=below, **reckon)

    attention = 4 * 512  # of one layer, forward, at a mean of one token seen
    last = 1000 * (10 * 2 * layer + 4 * layer + attention * (10 + 2)) + 100 * 4 * head
    assert work(Freeze(layers=1)) == pytest.approx(last, rel=1e-3)
    assert work(Freeze(layers=1, head=True)) == pytest.approx(last + 100 * 2 * head, rel=1e-3)
    assert work(Freeze(layers=1), recompute=True) == pytest.approx(last + 1000 * (2 * layer + attention), rel=1e-3)
    assert work(Freeze(layers=10, embeddings=True, norms=True)) == work(Full())
    once = 750 * 9 * (2 * layer + attention)  # of four epochs three find what the frozen layers give
    assert work(Freeze(layers=1), below=250) == pytest.approx(last - once, rel=1e-3)


class Ear(say.Silent):
    """Keeps what is noted."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, text: str) -> None:
        self.heard.append(text)


def test_documents_go_through_together_where_frozen_weights_are_of_another_type(
    facts: BaseFacts, tmp_path: Path
) -> None:
    model = Freeze().wrap(load(facts.folder, torch.bfloat16), facts)
    ear = Ear()
    before = say.hear(ear)
    try:
        rows = random_rows((12, 9, 20, 7, 12, 15))
        learn(model, rows, rows, settings(dtype="bfloat16"), keeper=Freeze(), run=tmp_path)
    finally:
        say.hear(before)
    assert ear.heard == []


def faults(method: Freeze, base: BaseFacts) -> list[Fault]:
    return method.refuse(base, MACHINE)


def test_all_faults_come_at_once(facts: BaseFacts) -> None:
    found = faults(Freeze(layers=(6, -7, 0), names=("*.v_porj.*", "nonsense")), facts)
    assert [fault.code for fault in found] == [
        "method/no-such-layer",
        "method/unknown-weights",
        "method/unknown-weights",
    ]
    assert "-7, 6" in found[0].what
    assert "0 to 5" in found[0].fix


def test_more_layers_than_there_are_are_refused(facts: BaseFacts) -> None:
    (fault,) = faults(Freeze(layers=7), facts)
    assert fault.code == "method/no-such-layer"
    assert fault.fix == "set method.layers: 6 or less"


@pytest.mark.parametrize(
    ("pattern", "fix"),
    [
        ("v_proj", "did you mean '*v_proj*'?"),
        ("*.self_attn.v_proj", "did you mean '*.self_attn.v_proj*'?"),
        ("model.layers.*.self_attn.v_porj.weight", "did you mean 'model.layers.*.self_attn.v_proj.weight'?"),
        ("lm_head.weight", "set method.head: true"),
    ],
)
def test_a_pattern_that_matches_nothing_is_told_the_nearest_that_does(pattern: str, fix: str, facts: BaseFacts) -> None:
    (fault,) = faults(Freeze(names=(pattern,)), facts)
    assert fault.code == "method/unknown-weights"
    assert fault.fix.startswith(fix)


@pytest.mark.parametrize("layers", [0, ()])
def test_a_choice_of_nothing_is_refused(layers: Any, facts: BaseFacts) -> None:
    (fault,) = faults(Freeze(layers=layers), facts)
    assert fault.code == "method/nothing-moves"


def test_a_base_whose_layers_are_in_no_list_is_refused_where_layers_are_chosen(tmp_path: Path) -> None:
    """A decoder whose config counts the layers of an encoder that it has not."""
    from transformers import BartConfig

    shape = {"encoder_layers": 2, "decoder_layers": 3, "d_model": 32, "vocab_size": 64}
    BartConfig(**shape, architectures=["BartForCausalLM"]).save_pretrained(tmp_path)
    base = BaseFacts.read(tmp_path)
    (fault,) = faults(Freeze(), base)
    assert fault.code == "method/no-layer-list"
    by_name = Freeze(layers=0, names=("*.layers.2.*",))
    assert faults(by_name, base) == []
    assert by_name.footprint(base).lowest == 0  # it cannot be told
    assert moving(by_name.wrap(empty(tmp_path), base)) == {
        name for name, _ in empty(tmp_path).named_parameters() if ".layers.2." in name
    }


@pytest.mark.parametrize(
    "bad",
    [
        *({"layers": layers} for layers in (-1, 1.0, 1.5, 0.0, True, "all", (0.5,))),
        *({"names": "*"}, {"names": ("",)}, {"head": "last"}, {"lasers": 2}),
    ],
)
def test_options_that_make_no_sense_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        Freeze(**bad)  # type: ignore[arg-type]


def test_a_head_of_its_own_goes_to_llama_cpp_where_that_has_a_place_for_it(tmp_path: Path) -> None:
    from transformers import GemmaConfig

    GemmaConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=64).save_pretrained(tmp_path)
    base = BaseFacts.read(tmp_path)
    alone = Freeze(head=True).delivers(base)
    assert {name: one.kind for name, one in alone.items()} == {
        "safetensors": "exact",
        "gguf": "refused",
        "ollama": "refused",
        "web": "exact",
    }
    assert alone["gguf"].instead == "full"
    both = Freeze(head=True, embeddings=True).delivers(base)
    assert {one.kind for one in (*both.values(), *Freeze().delivers(base).values())} == {"exact"}
