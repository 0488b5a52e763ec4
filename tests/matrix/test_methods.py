"""What every method does. A new method is one more row in ROWS, and brings all of these behaviours with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tiny.models import save
from tiny.rows import random_rows
from tiny.settings import settings
from tunesmith import rooms
from tunesmith.learn import agree, resume
from tunesmith.learn.loop import learn
from tunesmith.learn.loss import DocumentLoss, recompute_activations
from tunesmith.machine import Machine
from tunesmith.methods.adapter import Adapter
from tunesmith.methods.freeze import Freeze
from tunesmith.methods.full import Full
from tunesmith.methods.lora import Lora
from tunesmith.methods.prefix import Prefix
from tunesmith.methods.prompt import Prompt
from tunesmith.methods.ptuning import Ptuning
from tunesmith.methods.qlora import Qlora
from tunesmith.text.example import Tokens
from tunesmith.weights import additions, estimate
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load

MACHINE = Machine(n_cores=2, memory_bytes=24 * 10**9, free_disk_bytes=10**11)
D, FF, HEADS, KV, LAYERS = 64, 128, 64, 32, 2  # widths of the tiny Llama: hidden, inside the MLP, query, key
LINEAR = ((D, HEADS), (D, KV), (D, KV), (HEADS, D), (D, FF), (D, FF), (FF, D))
LAYER = sum(i * o for i, o in LINEAR) + 2 * D


@dataclass(frozen=True)
class Row:
    """A method, and what is true of it alone."""

    method: Any
    trainable: Callable[[int], int]  # from the rows of the embedding
    rate: float  # at which it learns eight rows by heart
    settles_within: float = 1e-5
    begins_as_base: bool = True
    new: frozenset[str] = frozenset()  # weights of the settled model that its base has not
    bound_within: float = 4.0  # times that the bound of activations may be what is counted
    heart: Any = None  # the method in the size in which it learns by heart, where that is another
    heart_steps: int = 80
    heart_loss: float = 0.15  # a random base has nothing that a soft prompt could call up: it keeps some of its 5 nats


SOFT: Any = {"begins_as_base": False, "heart_steps": 200, "heart_loss": 0.8}
PREFIX: Any = {"begins_as_base": False, "heart_steps": 250}
ABOVE: Any = {"bound_within": 5.5}  # one of the two layers goes forward only, up to its MLP
ROWS = {
    "full": Row(Full(), lambda v: v * D + LAYERS * (sum(i * o for i, o in LINEAR) + 2 * D) + D, 5e-3),
    "freeze": Row(Freeze(), lambda v: LAYER, 1e-2),
    "freeze, the first layer": Row(Freeze(layers=(0,)), lambda v: LAYER, 1e-2),
    "freeze, a head of its own": Row(
        Freeze(layers=1, head=True), lambda v: LAYER + v * D, 1e-2, new=frozenset({"lm_head.weight"})
    ),
    "freeze, embeddings and norms": Row(
        Freeze(layers=0, embeddings=True, norms=True), lambda v: v * D + (2 * LAYERS + 1) * D, 1e-2
    ),
    "freeze, by name": Row(
        Freeze(layers=0, names=("*.v_proj.*", "*.down_proj.weight")), lambda v: LAYERS * (D * KV + FF * D), 1e-2
    ),
    "lora": Row(Lora(rank=8), lambda v: LAYERS * sum(8 * (i + o) for i, o in LINEAR), 2e-2),
    "lora on two layers": Row(
        Lora(rank=16, targets=("v_proj", "down_proj")), lambda v: LAYERS * 16 * (D + KV + FF + D), 2e-2
    ),
    "lora+": Row(Lora(rank=8, b_rate=16), lambda v: LAYERS * sum(8 * (i + o) for i, o in LINEAR), 5e-3),
    "rslora": Row(
        Lora(rank=8, alpha=16, variant="rslora"), lambda v: LAYERS * sum(8 * (i + o) for i, o in LINEAR), 2e-2
    ),
    "dora": Row(Lora(rank=8, variant="dora"), lambda v: LAYERS * sum(8 * (i + o) + o for i, o in LINEAR), 2e-2),
    "pissa": Row(Lora(rank=8, variant="pissa"), lambda v: LAYERS * sum(8 * (i + o) for i, o in LINEAR), 5e-3),
    "lora, embedding and head": Row(
        Lora(rank=8, targets=("q_proj", "embed_tokens", "lm_head")),
        lambda v: LAYERS * 8 * (D + HEADS) + 2 * 8 * (v + D),
        2e-2,
        bound_within=5.0,
        new=frozenset({"lm_head.weight"}),
    ),
    "dora, embedding": Row(
        Lora(rank=8, variant="dora", targets=("embed_tokens", "v_proj", "down_proj")),
        lambda v: LAYERS * (8 * (D + KV + FF + D) + KV + D) + 8 * (v + D) + D,
        2e-2,
        new=frozenset({"lm_head.weight"}),
    ),
    "pissa, embedding and head": Row(
        Lora(rank=8, variant="pissa", targets=("embed_tokens", "lm_head", "v_proj")),
        lambda v: LAYERS * 8 * (D + KV) + 2 * 8 * (v + D),
        5e-3,
        bound_within=5.0,
        new=frozenset({"lm_head.weight"}),
    ),
    "lora, tokens of the base": Row(
        Lora(rank=8, tokens=("a", "<|im_end|>")), lambda v: LAYERS * sum(8 * (i + o) for i, o in LINEAR) + 2 * D, 2e-2
    ),
    "lora, tokens": Row(
        Lora(rank=8, tokens=("a", "<tool>", "</tool>")),
        lambda v: LAYERS * sum(8 * (i + o) for i, o in LINEAR) + 3 * D,
        2e-2,
        begins_as_base=False,  # it has more logits: test_new_tokens.py holds the others to the base's
    ),
    # It begins as what the four bits tell of the base: test_qlora.py holds it to that.
    "qlora": Row(Qlora(rank=8), lambda v: LAYERS * sum(8 * (i + o) for i, o in LINEAR), 2e-2, begins_as_base=False),
    "qlora, head": Row(
        Qlora(rank=8, targets=("q_proj", "lm_head")),
        lambda v: LAYERS * 8 * (D + HEADS) + 8 * (v + D),
        2e-2,
        begins_as_base=False,
        bound_within=5.0,
        new=frozenset({"lm_head.weight"}),
    ),
    "adapter": Row(Adapter(size=32), lambda v: LAYERS * 3 * D * 32, 2e-2, **ABOVE),
    "adapter, wide and strong": Row(Adapter(size=80, scale=4.0), lambda v: LAYERS * 3 * D * 80, 1e-2, **ABOVE),
    "adapter, houlsby": Row(Adapter(form="houlsby", size=32), lambda v: LAYERS * 2 * (2 * D * 32 + 32 + D), 2e-2),
    "adapter, pfeiffer": Row(
        Adapter(form="pfeiffer", size=80, activation="gelu"), lambda v: LAYERS * (2 * D * 80 + 80 + D), 2e-2, **ABOVE
    ),
    "prompt": Row(Prompt(length=6), lambda v: 6 * D, 7e-1, **SOFT, heart=Prompt(length=96)),
    "prompt, from the vocabulary": Row(
        Prompt(length=4, init="vocabulary"), lambda v: 4 * D, 7e-1, **SOFT, heart=Prompt(length=96, init="vocabulary")
    ),
    "prompt, from nothing": Row(
        Prompt(length=6, init="random"), lambda v: 6 * D, 7e-1, **SOFT, heart=Prompt(length=96, init="random")
    ),
    "ptuning": Row(
        Ptuning(length=6), lambda v: 6 * D + 2 * (D + 1) * D, 7e-1, **SOFT, heart=Ptuning(length=96, hidden=256)
    ),
    "ptuning, lstm": Row(
        Ptuning(length=6, encoder="lstm"),
        lambda v: 6 * D + sum(2 * 4 * 32 * (read + 32 + 2) for read in (D, 64)) + 2 * (D + 1) * D,
        7e-1,
        **SOFT,
        heart=Ptuning(length=96, hidden=128, encoder="lstm"),
    ),
    "prefix": Row(Prefix(length=6), lambda v: LAYERS * 2 * 6 * KV, 1e-1, **PREFIX, heart=Prefix(length=64)),
    "prefix, from nothing": Row(
        Prefix(length=6, init="random"),
        lambda v: LAYERS * 2 * 6 * KV,
        1e-1,
        **PREFIX,
        heart=Prefix(length=64, init="random"),
    ),
    "prefix, projected": Row(
        Prefix(length=6, projection=48),
        lambda v: 6 * 48 + 49 * 48 + 49 * LAYERS * 2 * KV,
        2e-1,
        **PREFIX,
        heart=Prefix(length=96, projection=128),
    ),
}
each = pytest.mark.parametrize("name", ROWS)
QUICK = ("full", "freeze", "lora", "qlora", "adapter", "prefix")  # soon learnt by heart, and one of each kind
DATA = random_rows((12, 9, 20, 7, 12, 15, 8, 12), share=0.6)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its weights are wide enough for a frozen head to say one token and not another."""
    return save(tmp_path_factory.mktemp("base"), initializer_range=0.15)


def wrapped(name: str, base: Path, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return ROWS[name].method.wrap(load(base, dtype), BaseFacts.read(base))


def trained(name: str, base: Path, run: Path, **changes: Any) -> nn.Module:
    model = wrapped(name, base)
    told = settings(**{"learning_rate": ROWS[name].rate, **changes})
    rows = data(name, base)
    method = ROWS[name].method
    learn(model, rows, rows[:2], told, keeper=method, run=run, rates=method.rates(model))
    return model


def lead(name: str, base: Path) -> tuple[int, ...]:
    ids: tuple[int, ...] = ROWS[name].method.lead(BaseFacts.read(base))
    return ids


def data(name: str, base: Path) -> list[Tokens]:
    return [row.after(lead(name, base)) for row in DATA]


def answers(name: str, base: Path, model: nn.Module) -> list[Tensor]:
    """What a model tuned by the method says; one of the base's vocabulary."""
    before = lead(name, base)
    return agree.logprobs(model, [row.ids for row in data(name, base)[:3]], before, len(before))


def gap(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    return agree.gap(one, other) if one[0].shape == other[0].shape else math.inf


def test_every_method_has_a_row() -> None:
    assert {type(row.method).kind for row in ROWS.values()} == set(rooms.names("methods"))


@each
def test_it_begins_as_its_base_where_that_is_promised(name: str, base: Path) -> None:
    own = agree.logprobs(load(base), [row.ids for row in DATA[:3]], lead(name, base))
    assert (gap(answers(name, base, wrapped(name, base)), own) <= 1e-5) == ROWS[name].begins_as_base


@each
def test_as_many_weights_move_as_the_formula_says(name: str, base: Path) -> None:
    facts = BaseFacts.read(base)
    count = sum(weight.numel() for weight in wrapped(name, base).parameters() if weight.requires_grad)
    assert count == ROWS[name].method.trainable(facts) == ROWS[name].trainable(facts.vocab_size)


@each
def test_what_moves_is_float32_even_over_a_bfloat16_base(name: str, base: Path) -> None:
    kinds = {weight.dtype for weight in wrapped(name, base, torch.bfloat16).parameters() if weight.requires_grad}
    assert kinds == {torch.float32}


@each
def test_only_its_own_weights_move_and_all_of_them_do(name: str, base: Path, tmp_path: Path) -> None:
    before = {key: weight.detach().clone() for key, weight in wrapped(name, base).named_parameters()}
    after = dict(trained(name, base, tmp_path).named_parameters())
    moves = {key for key, weight in after.items() if weight.requires_grad}
    assert {key for key, weight in after.items() if not torch.equal(weight, before[key])} == moves


@pytest.mark.parametrize("name", [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in ROWS])
def test_eight_rows_are_learnt_by_heart(name: str, base: Path, tmp_path: Path) -> None:
    row, facts = ROWS[name], BaseFacts.read(base)
    method = row.heart or row.method
    torch.manual_seed(0)
    model = method.wrap(load(base), facts)
    n = row.heart_steps
    told = settings(epochs=n, steps=n, rows_per_step=8, learning_rate=row.rate, weight_decay=0.0)
    rows = [one.after(method.lead(facts)) for one in DATA]
    ended = learn(model, rows, rows, told, keeper=method, run=tmp_path, rates=method.rates(model))
    assert ended.held_out_loss is not None
    assert ended.held_out_loss < row.heart_loss


@each
def test_what_is_saved_and_put_back_gives_the_same_answers(name: str, base: Path, tmp_path: Path) -> None:
    model = trained(name, base, tmp_path / "run")
    ROWS[name].method.save(model, tmp_path / "kept")
    assert all(file.suffix != ".bin" for file in (tmp_path / "kept").iterdir()), "no pickle"
    other = wrapped(name, base)
    assert gap(answers(name, base, other), answers(name, base, model)) > 1e-3
    ROWS[name].method.load(other, tmp_path / "kept")
    assert gap(answers(name, base, other), answers(name, base, model)) == 0


@each
def test_at_rest_it_answers_the_same_and_resting_twice_is_resting_once(name: str, base: Path, tmp_path: Path) -> None:
    model = trained(name, base, tmp_path)
    tuned = answers(name, base, model)
    settled = ROWS[name].method.settle(model)
    assert gap(answers(name, base, settled), tuned) <= ROWS[name].settles_within
    assert gap(answers(name, base, ROWS[name].method.settle(settled)), answers(name, base, settled)) == 0
    besides = set((additions.of(settled) or {}).get("weights", ()))
    names = {key for key, _ in settled.named_parameters()} - besides
    assert names == {key for key, _ in load(base).named_parameters()} | ROWS[name].new


@each
def test_a_run_that_was_broken_off_ends_where_a_straight_one_does(name: str, base: Path, tmp_path: Path) -> None:
    straight = trained(name, base, tmp_path / "straight")
    trained_half(name, base, tmp_path / "broken")
    found = resume.latest(tmp_path / "broken")
    assert found is not None
    assert found[1].step == 3
    torch.manual_seed(123)  # a new process would begin with other random numbers
    resumed = trained(name, base, tmp_path / "broken")
    for (key, one), (_, other) in zip(straight.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(one, other), key


def trained_half(name: str, base: Path, run: Path) -> None:
    """A run that dies in its fourth step, as a kill would have it."""

    class Dies(Exception):
        pass

    calls = 0
    before = DocumentLoss.forward

    def forward(self: DocumentLoss, documents: Any) -> Tensor:
        nonlocal calls
        calls += torch.is_grad_enabled()
        if calls == 4:
            raise Dies
        return before(self, documents)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DocumentLoss, "forward", forward)
        with pytest.raises(Dies):
            trained(name, base, run)


@each
def test_bfloat16_products_learn_about_the_same(name: str, base: Path, tmp_path: Path) -> None:
    losses = []
    for dtype in ("float32", "bfloat16"):
        model = wrapped(name, base, getattr(torch, dtype))
        told = settings(dtype=dtype, epochs=10, steps=30, learning_rate=min(ROWS[name].rate / 4, 5e-2))
        rows = data(name, base)
        ended = learn(model, rows, rows, told, keeper=ROWS[name].method, run=tmp_path / dtype)
        losses.append(ended.held_out_loss)
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@each
def test_recomputing_activations_changes_nothing_but_memory(name: str, base: Path, tmp_path: Path) -> None:
    one = trained(name, base, tmp_path / "kept")
    other = trained(name, base, tmp_path / "again", recompute=True)
    for (key, kept), (_, again) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert torch.allclose(kept, again, atol=1e-6), key


@each
@pytest.mark.parametrize("recompute", [False, True])
def test_the_memory_estimate_is_an_upper_bound(name: str, recompute: bool, base: Path) -> None:
    """Counted: each byte that autograd keeps for the backward pass, and each of weights, gradients and moments."""
    facts, method = BaseFacts.read(base), ROWS[name].method
    model = wrapped(name, base)
    loss = DocumentLoss(model, together=False)
    if recompute:
        recompute_activations(model)
    model.train()
    document = random_rows((256,))[0].after(method.lead(facts))
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    standing = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        held = loss([document])
    held.backward()
    activations = sum(size for place, size in seen.items() if place not in standing)
    trainable = method.trainable(facts)
    weights = sum(weight.nbytes for weight in model.parameters()) + trainable * 12
    told = estimate.Load.of(method, facts, "float32", 256)
    n_tokens = len(document.ids) + method.footprint(facts).n_attended
    bound = estimate.memory_bytes(facts, told, tokens_at_once=n_tokens, recompute=recompute) - estimate.PROGRAM
    per_token = estimate.token_bytes(facts, told, recompute=recompute)
    assert activations + weights <= bound
    assert activations <= n_tokens * per_token + estimate.head_bytes(facts, told, 256)
    assert recompute or n_tokens * per_token < ROWS[name].bound_within * activations, "a bound that is of some use"


@each
def test_it_says_of_every_export_whether_it_gets_there(name: str, base: Path) -> None:
    delivers = ROWS[name].method.delivers(BaseFacts.read(base))
    assert set(delivers) == set(rooms.names("exports"))
    assert all(one.kind in ("exact", "refused") and one.how for one in delivers.values())


@each
def test_a_base_that_it_can_tune_is_not_refused(name: str, base: Path) -> None:
    assert ROWS[name].method.refuse(BaseFacts.read(base), MACHINE) == []
