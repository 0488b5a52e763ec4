"""Tokens whose rows learn whole: their ids, where they begin, that no others move, and how they are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tiny.models import CHATML, save, tokenizer
from tiny.moved import shaken
from tiny.rows import random_rows
from tunesmith.learn.agree import gap, logprobs
from tunesmith.learn.loss import DocumentLoss
from tunesmith.machine import Machine
from tunesmith.methods.lora import Lora
from tunesmith.methods.qlora import Qlora
from tunesmith.text import vocabulary
from tunesmith.text.example import Tokens
from tunesmith.text.template import Text
from tunesmith.weights import save as saving
from tunesmith.weights.facts import BaseFacts
from tunesmith.weights.load import load
from tunesmith.weights.token_rows import EmbeddingWithRows, HeadWithRows, TokenRows

MACHINE = Machine(2, 10**10, 10**11)
D = 64
TOKENS = ("<tool>", "a", "</tool>")  # the second is the base's own
EACH = pytest.mark.parametrize("tied", [True, False])


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A base whose head is the embedding, and one that has a head of its own."""
    folder = tmp_path_factory.mktemp("bases")
    return {tied: save(folder / str(tied), tie_word_embeddings=tied, initializer_range=0.15) for tied in (True, False)}


def wrapped(method: Any, base: Path, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    return method.wrap(load(base, dtype), BaseFacts.read(base))


def learnt(method: Any, base: Path) -> Any:
    """A wrapped model all of whose learnt weights have moved."""
    return shaken(wrapped(method, base))


def ends(model: Any) -> tuple[Any, Any]:
    return model.get_input_embeddings(), model.get_output_embeddings()


def asked(base: Path) -> list[tuple[int, ...]]:
    """Rows with new tokens in them, that of the base and others."""
    n, a = len(tokenizer()), BaseFacts.read(base).token_ids["a"]
    return [(1, 5, n, 12, a, n + 1, 7), (3, n + 1, n)]


def test_a_token_of_the_base_keeps_its_id_and_the_others_take_the_next_ones(bases: dict[bool, Path]) -> None:
    facts, n = BaseFacts.read(bases[True]), len(tokenizer())
    assert Lora(tokens=TOKENS).words(facts) == {"<tool>": n, "</tool>": n + 1}
    assert Lora(tokens=("<|im_end|>",)).words(facts) == {}
    _, head = ends(wrapped(Lora(rank=4, tokens=TOKENS), bases[True]))
    assert head.rows.ids.tolist() == [n, facts.token_ids["a"], n + 1]


def test_a_text_has_one_id_for_each_new_token_and_an_answer_shows_them(tmp_path: Path) -> None:
    base, n = save(tmp_path / "base"), len(tokenizer())
    (tmp_path / "grown").mkdir()
    saving.copy_words(base, tmp_path / "grown")
    vocabulary.add(tmp_path / "grown", {"<tool>": n, "</tool>": n + 1}, special=False)
    text, grown = Text.read(base), Text.read(tmp_path / "grown")
    said = "hello<tool> fox</tool><|im_end|>"
    assert grown.encode(said) == [*text.encode("hello"), n, *text.encode(" fox"), n + 1, *text.encode("<|im_end|>")]
    assert grown.decode(grown.encode(said)) == "hello<tool> fox</tool>"
    assert grown.end_ids == text.end_ids
    (tmp_path / "other").mkdir()
    saving.copy_words(base, tmp_path / "other")
    with pytest.raises(ValueError, match="have the ids"):
        vocabulary.add(tmp_path / "other", {"<tool>": n + 5}, special=False)


@EACH
def test_a_new_row_begins_as_the_mean_of_its_pieces(tied: bool, bases: dict[bool, Path]) -> None:
    base, own = bases[tied], load(bases[tied])
    pieces = Text.read(base).encode("<tool>")
    assert len(pieces) > 2
    model = wrapped(Lora(rank=4, tokens=TOKENS), base)
    for layer, before in zip(ends(model), ends(own), strict=True):
        assert torch.allclose(layer.rows.weight[0], before.weight[pieces].mean(0), atol=1e-7)
        assert torch.equal(layer.rows.weight[1], before.weight[BaseFacts.read(base).token_ids["a"]])
    assert (ends(model)[0].rows is ends(model)[1].rows) == tied


@EACH
def test_what_is_said_of_the_bases_tokens_is_at_first_what_the_base_says(tied: bool, bases: dict[bool, Path]) -> None:
    base, rows = bases[tied], torch.tensor([[1, 5, 9, 12, 40, 7]])
    with torch.no_grad():
        before = load(base)(rows).logits
        logits = wrapped(Lora(rank=4, tokens=TOKENS), base)(rows).logits
    assert logits.shape[-1] == before.shape[-1] + 2
    assert torch.allclose(logits[..., :-2], before, atol=1e-5)


@EACH
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_loss_and_gradients_are_those_of_a_model_with_these_rows(family: str, tied: bool, tmp_path: Path) -> None:
    """Gemma multiplies its embedding by the root of its width. The plain model's loss is made of all its logits."""
    base = save(tmp_path, family, tie_word_embeddings=tied, initializer_range=0.15)
    method = Lora(rank=4, tokens=TOKENS)
    model = wrapped(method, base)
    plain = method.settle(wrapped(method, base)).requires_grad_(True)
    documents = [Tokens(ids, (0.0, *(1.0 + 0.5 * at for at in range(len(ids) - 1)))) for ids in asked(base)]
    loss = DocumentLoss(model, together=False)
    assert loss.has_plain_head
    held = loss(documents)
    held.backward()
    wanted = torch.zeros(())
    for one in documents:
        said = plain(torch.tensor([one.ids])).logits[0, :-1].log_softmax(-1)
        each = -said.gather(1, torch.tensor(one.ids[1:])[:, None])[:, 0]
        wanted = wanted + (each * torch.tensor(one.weights[1:])).sum()
    wanted.backward()
    assert held.item() == pytest.approx(wanted.item(), rel=1e-5)
    for layer, other in zip(ends(model), ends(plain), strict=True):
        assert torch.allclose(layer.rows.weight.grad, other.weight.grad[layer.rows.ids], rtol=1e-3, atol=1e-4)
        assert layer.rows.weight.grad.abs().sum() > 0
    other = dict(plain.named_parameters())["model.layers.0.self_attn.o_proj.weight"].grad
    pair = model.get_submodule("base_model.model.model.layers.0.self_attn.o_proj")
    by_hand = 8.0 * other @ pair.lora_A["default"].weight.T  # alpha / rank of 32 / 4
    assert torch.allclose(pair.lora_B["default"].weight.grad, by_hand, rtol=1e-3, atol=1e-4)


def test_more_rows_than_a_chunk_of_logits_give_the_same_in_bfloat16(bases: dict[bool, Path]) -> None:
    """Sums over many chunks, beside the path that makes all logits at once."""
    model = wrapped(Lora(rank=4, tokens=TOKENS), bases[False])
    rows = random_rows((400,))
    told = {}
    for plain_head in (True, False):
        for weight in model.parameters():
            weight.grad = None
        loss = DocumentLoss(model, dtype=torch.bfloat16, together=False)
        assert loss.has_plain_head
        loss.has_plain_head = plain_head
        held = loss(rows)
        held.backward()
        told[plain_head] = held.item(), ends(model)[1].rows.weight.grad.clone()
    assert told[True][0] == pytest.approx(told[False][0], rel=1e-2)
    far = (told[True][1] - told[False][1]).norm() / told[False][1].norm()
    assert far < 0.03


def test_a_head_with_a_bias_keeps_it(bases: dict[bool, Path]) -> None:
    torch.manual_seed(0)
    head, rows, hidden = nn.Linear(8, 20), TokenRows([3, 17], torch.randn(2, 8)), torch.randn(1, 4, 8)
    with torch.no_grad():
        told = HeadWithRows(head, rows)(hidden)
        head.weight[[3, 17]] = rows.weight
        assert torch.allclose(told, head(hidden), atol=1e-6)


def test_an_embedding_reads_its_other_rows_as_before() -> None:
    torch.manual_seed(0)
    base, ids = nn.Embedding(20, 8), torch.tensor([[3, 4, 17], [3, 3, 0]])
    rows = TokenRows([3, 17], torch.randn(2, 8))
    with torch.no_grad():
        told = EmbeddingWithRows(base, rows, scale=2.0)(ids)
        assert torch.equal(told[0, 1], base.weight[4])
        assert torch.equal(told[1, 2], base.weight[0])
        assert torch.equal(told[0, 0], 2 * rows.weight[0])
        assert torch.equal(told[0, 2], 2 * rows.weight[1])


METHODS = [Lora(rank=4, tokens=TOKENS), Lora(rank=4, variant="pissa", tokens=TOKENS), Qlora(rank=4, tokens=TOKENS)]


@EACH
@pytest.mark.parametrize("family", ["llama", "gemma3_text", "qwen3"])
@pytest.mark.parametrize("method", METHODS)
def test_at_rest_only_these_rows_are_others_and_it_answers_the_same(
    method: Any, family: str, tied: bool, tmp_path: Path
) -> None:
    base = save(tmp_path, family, tie_word_embeddings=tied, initializer_range=0.15)
    model = learnt(method, base)
    tuned, own, n = logprobs(model, asked(base)), load(base), len(tokenizer())
    settled = method.settle(model)
    assert gap(logprobs(settled, asked(base)), tuned) < 2e-5
    assert settled.config.vocab_size == n + 2
    a = BaseFacts.read(base).token_ids["a"]
    for now, before in zip(ends(settled), ends(own), strict=True):
        assert len(now.weight) == n + 2
        same = (now.weight[:n] == before.weight).all(dim=1)
        assert same.logical_not().nonzero().flatten().tolist() == [a]
    assert (ends(settled)[1].weight is ends(settled)[0].weight) == tied
    saving.save(settled, base, tmp_path / "model")
    assert gap(logprobs(load(tmp_path / "model"), asked(base)), tuned) < 2e-5
    n_added = BaseFacts.read(tmp_path / "model").n_parameters - own.num_parameters()
    assert n_added == method.footprint(BaseFacts.read(base)).n_added


@EACH
@pytest.mark.parametrize("method", METHODS)
def test_what_is_saved_is_what_is_counted_and_comes_back(
    method: Any, tied: bool, bases: dict[bool, Path], tmp_path: Path
) -> None:
    base, facts = bases[tied], BaseFacts.read(bases[tied])
    model = learnt(method, base)
    method.save(model, tmp_path)
    kept = load_file(tmp_path / "adapter_model.safetensors")
    n_kept = sum(weight.numel() for weight in kept.values())
    assert n_kept == method.trainable(facts) + method.footprint(facts).n_kept
    assert sum(weight.numel() for weight in model.parameters() if weight.requires_grad) == method.trainable(facts)
    assert method.moves(facts)["tokens"] == 3 * D * (1 if tied else 2)
    other = wrapped(method, base)
    assert gap(logprobs(other, asked(base)), logprobs(model, asked(base))) > 1e-2
    method.load(other, tmp_path)
    assert gap(logprobs(other, asked(base)), logprobs(model, asked(base))) <= (1e-5 if method is METHODS[1] else 0)
    fewer = type(method)(rank=4, tokens=("<tool>",))
    model = wrapped(fewer, base)
    with pytest.raises(ValueError, match="other tokens"):
        fewer.load(model, tmp_path)


@EACH
@pytest.mark.parametrize("variant", ["plain", "dora", "pissa"])
def test_plain_peft_puts_the_adapter_on_the_base_once_that_has_grown(
    variant: Any, tied: bool, bases: dict[bool, Path], tmp_path: Path
) -> None:
    from peft import PeftModel

    method, base = Lora(rank=4, variant=variant, tokens=TOKENS), bases[tied]
    model = learnt(method, base)
    method.save(model, tmp_path)
    grown = load(base)
    grown.resize_token_embeddings(len(tokenizer()) + 2)
    theirs = PeftModel.from_pretrained(grown, str(tmp_path))
    assert gap(logprobs(theirs, asked(base)), logprobs(model, asked(base))) < 1e-5


def test_rows_that_the_embedding_has_to_spare_are_used_first(tmp_path: Path) -> None:
    base, n = save(tmp_path), len(tokenizer())
    model = load(base)
    model.resize_token_embeddings(n + 2)
    model.save_pretrained(base)
    facts = BaseFacts.read(base)
    few, many = Lora(rank=4, tokens=("<a>", "<b>")), Lora(rank=4, tokens=("<a>", "<b>", "<c>"))
    assert (few.footprint(facts).n_added, many.footprint(facts).n_added) == (0, D)
    assert few.words(facts) == {"<a>": n, "<b>": n + 1}
    for method, size in ((few, n + 2), (many, n + 3)):
        tuned = learnt(method, base)
        before = logprobs(tuned, [(4, n, n + 1)])
        settled = method.settle(tuned)
        assert settled.config.vocab_size == size
        assert gap(logprobs(settled, [(4, n, n + 1)]), before) < 1e-5


@pytest.mark.parametrize("listed", [True, False])
def test_a_folder_gets_the_tokens_and_keeps_all_else(listed: bool, tmp_path: Path) -> None:
    words = tokenizer(CHATML)
    words.save_pretrained(tmp_path)
    file, n = tmp_path / "tokenizer_config.json", len(words)
    if listed:
        told = {str(one): {"content": str(token), "special": True} for one, token in words.added_tokens_decoder.items()}
        file.write_text(json.dumps({**json.loads(file.read_text()), "added_tokens_decoder": told}))
    before, tree = json.loads(file.read_text()), json.loads((tmp_path / "tokenizer.json").read_text())
    vocabulary.add(tmp_path, {"<tool>": n, "</tool>": n + 1}, special=False)
    after, grown = json.loads(file.read_text()), json.loads((tmp_path / "tokenizer.json").read_text())
    new = grown["added_tokens"][len(tree["added_tokens"]) :]
    assert [(one["id"], one["content"]) for one in new] == [(n, "<tool>"), (n + 1, "</tool>")]
    assert not any(one["special"] or one["normalized"] for one in new)
    assert {**grown, "added_tokens": tree["added_tokens"]} == tree
    assert list(after.pop("added_tokens_decoder", {})) == [
        *before.pop("added_tokens_decoder", {}),
        *([str(n), str(n + 1)] if listed else []),
    ]
    assert after == before
    text = Text.read(tmp_path)
    assert text.decode(text.encode("hi<tool>")) == "hi<tool>"


def codes(base: Path, *tokens: str, **options: Any) -> list[str]:
    return [fault.code for fault in Lora(tokens=tokens, **options).refuse(BaseFacts.read(base), MACHINE)]


def test_what_is_no_token_is_refused_all_at_once(bases: dict[bool, Path]) -> None:
    base = bases[True]
    assert codes(base, *TOKENS, "<|im_end|>", " x") == []
    assert codes(base, "", " \n") == ["method/empty-token", "method/empty-token"]
    assert codes(base, "<a>", "<b>", "<a>") == ["method/token-twice"]
    assert codes(base, "<a>", "x<a>y") == ["method/token-in-token"]
    assert codes(base, "<a>", " ", "<a>", "a", rank=500) == [
        "method/rank-too-wide",
        "method/token-twice",
        "method/empty-token",
        "method/token-in-token",
    ]
    assert Lora(tokens=("<a>", "")).words(BaseFacts.read(base)) == {}


def test_tokens_beside_an_update_of_embedding_or_head_are_refused(bases: dict[bool, Path]) -> None:
    for target in ("embed_tokens", "lm_head"):
        assert codes(bases[False], "<a>", targets=("q_proj", target)) == ["method/tokens-and-target"]
    assert codes(bases[False], "<a>", targets=("q_proj",)) == []


def test_a_tokenizer_that_takes_no_tokens_is_refused_where_it_has_to(tmp_path: Path) -> None:
    base = save(tmp_path)
    (base / "tokenizer.json").unlink()
    assert codes(base, "<a>") == ["method/no-tokenizer-json"]
    assert codes(base) == []


def test_new_tokens_for_a_base_that_reads_an_embedding_in_every_layer_are_refused(tmp_path: Path) -> None:
    base = save(tmp_path)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "hidden_size_per_layer_input": 8}))
    assert codes(base, "<a>") == ["method/embeddings-in-layers"]
    assert codes(base, "<|im_end|>") == []
