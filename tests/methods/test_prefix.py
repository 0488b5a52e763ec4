"""A prefix: what it begins as, that every token sees it and nothing else changes, and where it rests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache

from tiny.models import config, save, tokenizer
from tiny.moved import plain_loss
from tiny.rows import random_rows
from tunesmith.errors import RecipeError
from tunesmith.learn.agree import gap, logprobs
from tunesmith.learn.attention import attending_per_document
from tunesmith.learn.loss import DocumentLoss
from tunesmith.machine import Machine
from tunesmith.methods.prefix import START, Prefix
from tunesmith.text.example import Tokens
from tunesmith.text.template import Text
from tunesmith.weights import additions
from tunesmith.weights._layers_prefix import prefixed, seen
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load
from tunesmith.weights.save import save as save_model

MACHINE = Machine(2, 10**10, 10**11)
WINDOW = 8
SLIDING: dict[str, Any] = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "mistral": {"sliding_window": WINDOW},
    "gemma3_text": SLIDING,
}
IDS = (3, 14, 15, 92, 65, 35, 89, 79, 32, 38, 46, 26, 43)


def wrapped(base: Path, *, spread: float = 0.3, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """A model with a prefix that learning has moved."""
    torch.manual_seed(0)
    model: Any = Prefix(**options).wrap(load(base, dtype), BaseFacts.read(base))
    with torch.no_grad():
        for weight in model.prefix.parameters():
            weight += spread * torch.randn_like(weight)
    return model


def at_rest(base: Path, into: Path, **options: Any) -> Path:
    save_model(Prefix().settle(wrapped(base, **options)), base, into)
    return into


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3_text", "gpt_neox", "phi"])
def test_learning_begins_as_the_base_that_has_read_the_text_first(family: str, tmp_path: Path) -> None:
    base = save(tmp_path, family)
    method = Prefix(length=9)
    text = tuple(method._ids(BaseFacts.read(base)))
    assert len(text) == 9
    (read,) = logprobs(load(base), [(*text, *IDS)])
    (found,) = logprobs(method.wrap(load(base), BaseFacts.read(base)), [IDS])
    assert gap([found], [read[9:]]) < 1e-5


def test_the_text_is_cut_or_repeated_to_the_length(base: Path) -> None:
    facts = BaseFacts.read(base)
    whole = Text.read(base).encode(START)
    assert Prefix(length=5)._ids(facts) == whole[:5]
    assert Prefix(length=2 * len(whole) + 1)._ids(facts) == [*whole, *whole, whole[0]]
    assert Prefix(length=3, text="fox")._ids(facts) != Prefix(length=3)._ids(facts)


def test_positions_that_are_learnt_rows_begin_at_the_first(tmp_path: Path) -> None:
    """GPT-2 has no rotation, and no row for a position below 0."""
    base = save(tmp_path, "gpt2", n_embd=32, n_layer=2, n_head=2)
    model = wrapped(base, length=5)
    assert Prefix().refuse(BaseFacts.read(base), MACHINE) == []
    assert gap(logprobs(model, [IDS]), logprobs(load(base), [IDS])) > 1e-3


def plainly(q: Tensor, k: Tensor, v: Tensor, first: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
    """Attention of one row's heads by the plainest means; `mask` (T, S) is of the tokens."""
    keys, values = (torch.cat([a, b], dim=1) for a, b in zip(first, (k, v), strict=True))
    scores = q @ keys.transpose(1, 2) / q.shape[-1] ** 0.5
    told = torch.cat([torch.ones(len(mask), first[0].shape[1], dtype=torch.bool), mask], dim=1)
    return scores.masked_fill(~told, -torch.inf).softmax(-1) @ values


def layer(first: tuple[Tensor, Tensor]) -> torch.nn.Module:
    class Pair:
        key, value = first

    module = torch.nn.Module()
    module.__dict__["prefix"] = Pair
    return module


@pytest.mark.parametrize("said", ["nothing", "truth", "what is added", "each row's own"])
def test_every_token_sees_the_prefix_and_what_its_mask_says(said: str) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 7, 8) for _ in range(3))
    first = torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    masks = torch.ones(2, 7, 7, dtype=torch.bool).tril()
    if said == "each row's own":
        masks[1, :, :2] = False  # padding
    given = {
        "nothing": None,
        "truth": masks[:1, None],
        "what is added": torch.zeros(2, 1, 7, 7).masked_fill(~masks[:, None], -torch.inf),
        "each row's own": masks[:, None],
    }
    found, _ = prefixed(layer(first), q, k, v, given[said])
    expected = torch.stack([plainly(q[row], k[row], v[row], first, masks[row]) for row in (0, 1)])
    assert torch.allclose(found, expected.transpose(1, 2), atol=1e-6)


def test_one_new_token_sees_all_that_is_in_the_cache(base: Path) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(1, 3, 1, 8), torch.randn(1, 3, 7, 8), torch.randn(1, 3, 7, 8)
    first = torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    found, _ = prefixed(layer(first), q, k, v, None)
    expected = plainly(q[0], k[0], v[0], first, torch.ones(1, 7, dtype=torch.bool))
    assert torch.allclose(found[0], expected.transpose(0, 1), atol=1e-6)


@pytest.mark.parametrize("term", ["softcap", "s_aux", "position_bias", "cache"])
def test_terms_that_are_not_computed_are_refused_not_dropped(term: str) -> None:
    q = torch.randn(1, 1, 3, 4)
    with pytest.raises(NotImplementedError, match=term):
        prefixed(torch.nn.Module(), q, q, q, None, **{term: 30.0})


@pytest.mark.parametrize("family", FAMILIES)
def test_a_written_answer_is_the_likeliest_token_each_time(family: str, tmp_path: Path) -> None:
    """By `generate`, with its cache, against whole passes without one; the answer is longer than the window."""
    model = load(at_rest(save(tmp_path / "base", family, **FAMILIES[family]), tmp_path / "model", length=5))
    ids = torch.tensor([IDS])
    cache = DynamicCache(config=model.config)
    options: Any = {"max_new_tokens": 20, "min_new_tokens": 20, "do_sample": False}
    written = model.generate(ids, attention_mask=torch.ones_like(ids), past_key_values=cache, **options)
    assert cache.get_seq_length() == len(IDS) + 19, "the prefix is not in the cache"
    end = torch.tensor(model.generation_config.eos_token_id)
    for _ in range(20):
        with torch.no_grad():
            logits = model(ids, use_cache=False).logits[0, -1].index_fill(0, end, -torch.inf)
        ids = torch.cat([ids, logits.argmax()[None, None]], dim=1)
    assert written.tolist() == ids.tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_padded_row_gets_what_it_gets_alone(family: str, tmp_path: Path) -> None:
    model = wrapped(save(tmp_path, family, **FAMILIES[family]), length=5).eval()
    short = IDS[:9]
    n = len(IDS) - len(short)
    rows = torch.tensor([IDS, (0,) * n + short])
    mask = torch.tensor([[1] * len(IDS), [0] * n + [1] * len(short)])
    with torch.no_grad():
        both = model(rows, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0)).logits
        alone = model(torch.tensor([short])).logits
    assert torch.allclose(both[1, n:], alone[0], atol=1e-5)


def losses(model: Any, rows: list[Tokens], *, together: bool) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    with attending_per_document(model) as can:
        assert can
        loss = DocumentLoss(model)
        found = loss(rows) if together else torch.stack([loss([row]) for row in rows]).sum()
        found.backward()
    return found.item(), {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("projection", [False, 24])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_side_by_side_teach_what_each_teaches_alone(family: str, projection: bool | int, tmp_path: Path) -> None:
    model = wrapped(save(tmp_path, family, **FAMILIES[family]), length=5, projection=projection)
    rows = random_rows((5, 30, 30, 17, 9, 2, 8, 30))
    before = model.config._attn_implementation
    plain = plain_loss(model, rows)
    plain.backward()
    expected = {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}
    assert len(expected) == (5 if projection else 2 * 2)
    for together in (True, False):
        found, gradients = losses(model, rows, together=together)
        assert found == pytest.approx(plain.item(), rel=1e-5)
        assert gradients.keys() == expected.keys()
        for name, one in expected.items():
            assert (gradients[name] - one).norm() <= 1e-5 * one.norm(), name
    assert model.config._attn_implementation == before


def test_a_network_that_makes_the_prefix_runs_once_a_pass(base: Path) -> None:
    model = wrapped(base, length=5, projection=24)
    calls: list[int] = []
    model.prefix.network.register_forward_hook(lambda *_: calls.append(1))
    model(torch.tensor([IDS]))
    assert len(calls) == 1


def test_learning_begins_where_it_does_without_a_projection(base: Path) -> None:
    facts = BaseFacts.read(base)
    plain, made = (Prefix(length=5, projection=one).wrap(load(base), facts) for one in (False, 24))
    assert gap(logprobs(plain, [IDS]), logprobs(made, [IDS])) == 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("projection", [False, 24])
def test_a_folder_holds_the_base_as_it_was_and_the_prefix_beside_it(
    family: str, projection: bool | int, tmp_path: Path
) -> None:
    base = save(tmp_path / "base", family, **FAMILIES[family])
    model = wrapped(base, length=5, projection=projection)
    tuned = logprobs(model, [IDS])
    save_model(Prefix().settle(model), base, tmp_path / "model")
    again = load(tmp_path / "model")
    assert gap(logprobs(again, [IDS]), tuned) < 1e-6
    told = json.loads((tmp_path / "model" / "additions.json").read_text())
    assert (told["kind"], told["length"]) == ("prefix", 5)
    assert told["layers"] == {f"model.layers.{index}.self_attn": [2, 16, 16] for index in (0, 1)}
    assert set(told["weights"]) == {f"prefix.layers.{index}.{part}" for index in (0, 1) for part in ("key", "value")}
    plain, own = load(base), AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert gap(logprobs(own, [IDS]), logprobs(plain, [IDS])) == 0, "what knows of no prefix finds the base"
    configs = [json.loads((folder / "config.json").read_text()) for folder in (base, tmp_path / "model")]
    assert configs[0] == configs[1]


def test_the_prefix_takes_the_type_of_the_keys_beside_it(base: Path, tmp_path: Path) -> None:
    model = wrapped(base, length=5, dtype=torch.bfloat16).eval()
    assert {one.dtype for one in model.prefix.parameters()} == {torch.float32}
    with torch.no_grad():
        assert model(torch.tensor([IDS])).logits.dtype == torch.bfloat16
    folder = at_rest(base, tmp_path, length=5)
    assert {one.dtype for one in load(folder, torch.bfloat16).parameters()} == {torch.bfloat16}


def test_an_adapter_is_small_and_says_what_it_is(base: Path, tmp_path: Path) -> None:
    method, model = Prefix(length=5, projection=24), wrapped(base, length=5, projection=24)
    method.save(model, tmp_path)
    told = json.loads((tmp_path / "prefix.json").read_text())
    assert told["kind"] == "prefix"
    assert {name: told[name] for name in ("length", "projection", "init", "text")} == method.model_dump()
    assert {file.name for file in tmp_path.iterdir()} == {"prefix.json", "prefix.safetensors"}
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 4 * (method.trainable(BaseFacts.read(base)) + 1500)


@pytest.mark.parametrize("other", [{"length": 6}, {"length": 5, "projection": 24}])
def test_a_prefix_of_another_form_is_not_put_into_this_model(other: dict[str, Any], base: Path, tmp_path: Path) -> None:
    method, another = Prefix(length=5), Prefix(**other)
    method.save(wrapped(base, length=5), tmp_path)
    with pytest.raises(ValueError, match="another model or length"):
        another.load(wrapped(base, **other), tmp_path)


def test_what_moves_of_a_known_model_by_formula(tmp_path: Path) -> None:
    """Mistral-7B: 32 layers x keys and values x 20 tokens x 8 heads of 128."""
    from transformers import MistralConfig

    MistralConfig().save_pretrained(tmp_path)
    facts = BaseFacts.read(tmp_path)
    a_token = 32 * 2 * 8 * 128
    assert Prefix(length=20).moves(facts) == {"keys and values": 20 * a_token} == {"keys and values": 1_310_720}
    network = 512 * 513 + 513 * a_token
    assert Prefix(length=20, projection=True).moves(facts) == {"embedding": 20 * 512, "projection": network}
    assert Prefix(length=20).footprint(facts).n_attended == 20


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("bloom", "written out in the model"),
        ("mamba", "no layer of it attends"),
        ("gemma2", "softcap"),
        ("gpt_oss", "s_aux"),
        ("stablelm", "cannot be followed"),
    ],
)
def test_attention_that_has_no_place_for_a_prefix_is_refused_from_the_config(
    family: str, why: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shape: dict[str, Any] = {} if family in ("bloom", "mamba") else {"intermediate_size": 64, "head_dim": 16}
    made = config(family, len(tokenizer()), **shape)
    made.save_pretrained(tmp_path)
    capfd.readouterr()
    (fault,) = Prefix().refuse(BaseFacts.read(tmp_path), MACHINE)
    assert fault.code == "method/no-prefix-here"
    assert why in fault.what
    assert "Interface" not in capfd.readouterr().err, "transformers' own warning"


@pytest.mark.parametrize("bad", [{"length": 0}, {"init": "vocabulary"}, {"text": ""}, {"projection": -1}, {"rank": 8}])
def test_options_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        Prefix(**bad)


def test_the_projection_has_a_width_of_its_own_or_the_paper_s() -> None:
    assert [Prefix(projection=one).width for one in (False, True, 64)] == [0, 512, 64]


def test_looking_at_keys_leaves_a_model_as_it_was(base: Path) -> None:
    model = load(base).train()
    before = model.config._attn_implementation
    found = seen(model, IDS)
    assert model.training
    assert model.config._attn_implementation == before
    assert additions.of(model) is None
    assert {name: (tuple(key.shape), tuple(value.shape)) for name, (key, value) in found.items()} == {
        f"model.layers.{index}.self_attn": ((2, 13, 16), (2, 13, 16)) for index in (0, 1)
    }
