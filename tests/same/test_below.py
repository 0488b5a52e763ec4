"""Frozen layers below all that learns: passed once by each row, and the run is the one that passes them always."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tiny.models import save
from tiny.rows import random_rows
from tiny.settings import settings
from tunesmith.learn import below
from tunesmith.learn.attention import attending_per_document
from tunesmith.learn.below import kept_below
from tunesmith.learn.loop import learn
from tunesmith.learn.loss import inner
from tunesmith.methods.freeze import Freeze
from tunesmith.methods.full import Full
from tunesmith.methods.lora import Lora
from tunesmith.methods.prefix import Prefix
from tunesmith.methods.prompt import Prompt
from tunesmith.text.example import Tokens
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load

N_LAYERS = 4
EPOCHS = 3
PROBE = 12  # tokens


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"), num_hidden_layers=N_LAYERS)


def rows() -> list[Tokens]:
    """Three of them begin alike, and one comes twice."""
    (head,) = random_rows((40,), seed=1)
    tails = random_rows((5, 9, 3), seed=2)
    alike = [Tokens((*head.ids, *tail.ids), (*head.weights, *tail.weights)) for tail in tails]
    others = random_rows((20, 7, 12), seed=3)
    return [*alike, *others, others[0]]


@contextmanager
def counted(layer: nn.Module) -> Iterator[list[int]]:
    """The tokens that go forward through a layer, by portion; what the model is asked before it learns is shorter."""
    seen: list[int] = []

    def count(_: nn.Module, __: Any, made: torch.Tensor) -> None:
        if made.shape[1] > PROBE and torch._C._current_graph_task_id() < 0:  # not in the way back
            seen.append(made.shape[1])

    hook = layer.register_forward_hook(count)
    try:
        yield seen
    finally:
        hook.remove()


def course(base: Path, method: Any, run: Path, **changes: Any) -> tuple[list[float], list[list[int]]]:
    """Losses, held-out ones too, in their order; and the tokens through the first and the last layer."""
    model = method.wrap(load(base), BaseFacts.read(base)).train()
    layers = below.layers_of(inner(model), N_LAYERS)
    assert layers is not None
    made = rows()
    asked = settings(epochs=float(EPOCHS), steps=2 * EPOCHS, rows_per_step=4, learning_rate=3e-3, **changes)
    with counted(layers[0].input_layernorm) as first, counted(layers[-1].input_layernorm) as last:
        learn(model, made, made[:2], asked, keeper=method, run=run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line.get("loss", line.get("held_out_loss")) for line in lines], [first, last]


CHOICES = {
    "upper layers": Freeze(layers=1),
    "the head alone": Freeze(layers=0, head=True),
    "updates of upper layers": Lora(rank=2, targets=("layers.2.mlp.up_proj", "layers.3.self_attn.q_proj")),
}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("choice", CHOICES)
def test_the_course_is_the_same(choice: str, recompute: bool, base: Path, tmp_path: Path) -> None:
    plain, always = course(base, CHOICES[choice], tmp_path / "plain", recompute=recompute)
    kept, once = course(base, CHOICES[choice], tmp_path / "kept", recompute=recompute, keeps_below=True)
    assert kept == pytest.approx(plain, rel=1e-5)
    assert len(kept) == 2 * EPOCHS + 1 + EPOCHS
    assert plain[-1] < plain[0]
    n_portions, n_new = 2 * EPOCHS + 1 + EPOCHS, 2 + 1  # steps and held-out rows: of all epochs, and of the first
    assert [len(one) for one in always] == [n_portions, n_portions]
    above = n_new if choice == "the head alone" else n_portions
    assert [len(one) for one in once] == [n_new, above]


def test_in_bfloat16_too(base: Path, tmp_path: Path) -> None:
    plain, _ = course(base, CHOICES["upper layers"], tmp_path / "plain", dtype="bfloat16")
    kept, _ = course(base, CHOICES["upper layers"], tmp_path / "kept", dtype="bfloat16", keeps_below=True)
    assert kept == pytest.approx(plain, rel=2**-8)


@pytest.mark.parametrize("method", [Full(), Lora(rank=2), Prompt(length=3), Prefix(length=3)], ids=lambda one: one.kind)
def test_nothing_is_kept_where_something_below_learns(method: Any, base: Path, tmp_path: Path) -> None:
    model = method.wrap(load(base), BaseFacts.read(base)).train()
    with attending_per_document(inner(model)), kept_below(model, [row.ids for row in rows()], tmp_path) as found:
        assert found is None


class Chance(nn.Module):
    """Gives something else each time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)


def test_nothing_is_kept_of_what_is_left_to_chance(base: Path, tmp_path: Path) -> None:
    model = Freeze(layers=1).wrap(load(base), BaseFacts.read(base)).train()
    ids = [row.ids for row in rows()]
    with attending_per_document(model), kept_below(model, ids, tmp_path) as found:
        assert found is not None
    layers = below.layers_of(model, N_LAYERS)
    assert layers is not None
    layers[0].input_layernorm = nn.Sequential(layers[0].input_layernorm, Chance())
    with attending_per_document(model), kept_below(model, ids, tmp_path) as found:
        assert found is None


def test_a_full_disk_costs_the_time_alone(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = course(base, CHOICES["upper layers"], tmp_path / "plain")

    def full(file: int, n_bytes: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(below, "_take_room", full)
    found, passed = course(base, CHOICES["upper layers"], tmp_path / "full", keeps_below=True)
    assert found == plain
    assert len(passed[0]) == 2 * EPOCHS + 1 + EPOCHS


def test_room_is_taken_where_the_system_has_no_word_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.posix_fallocate", raising=False)
    with below._on_disk(tmp_path, (5, 3), torch.float32) as states:
        assert states is not None
        assert states.shape == (5, 3)
        states[4] = 1.0
        assert states.sum() == 3.0
    assert not list(tmp_path.iterdir())
