"""Tokens whose rows learn whole, beside what else learns: which they are, where they begin, how they are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import Fault
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

KEY = "token_adapter.trainable_tokens_delta"  # as PEFT names rows in an adapter's file


def faults(tokens: Sequence[str], base: BaseFacts, targets: Iterable[str]) -> list[Fault]:
    """Why these tokens cannot learn: what is no token, and a base that takes no new ones. `targets` are full names."""
    found = [*_misnamed(tokens)]
    if tokens and not set(base.ends).isdisjoint(targets):
        what = "the embedding or the head is a target and some of its tokens learn whole: the two would be one weight"
        fix = "leave method.tokens out, or embedding and head out of method.targets"
        found.append(Fault("method/tokens-and-target", what, fix=fix, key="method.tokens"))
    lacking = [token for token in tokens if token.strip() and token not in base.token_ids]
    if lacking and base.next_token is None:
        what = f"the base has no tokenizer.json that could take {lacking[0]!r} as a new token"
        fix = "save the tokenizer with AutoTokenizer in Python, which writes one, or leave method.tokens out"
        found.append(Fault("method/no-tokenizer-json", what, fix=fix, key="method.tokens"))
    if lacking and base.text_config.get("hidden_size_per_layer_input"):
        what = f"{base.model_type} reads an embedding in each layer, and a new token has a row for the first alone"
        found.append(Fault("method/embeddings-in-layers", what, fix="leave method.tokens out", key="method.tokens"))
    return found


def _misnamed(tokens: Sequence[str]) -> Iterable[Fault]:
    for token, n in Counter(tokens).items():
        if not token.strip():
            what = f"{token!r} is no token: it has no sign that could be seen"
            yield Fault("method/empty-token", what, fix="name a text such as <tool>", key="method.tokens")
        if n > 1:
            yield Fault("method/token-twice", f"{token!r} is named {n} times", fix="name it once", key="method.tokens")
        outer = next((one for one in tokens if token.strip() and token in one and token != one), None)
        if outer is not None:
            what = f"{token!r} is part of {outer!r}: which of them a text has would depend on who reads it"
            fix = "give both marks of their own, such as <a> and <b>"
            yield Fault("method/token-in-token", what, fix=fix, key="method.tokens")


def new(tokens: Sequence[str], base: BaseFacts) -> dict[str, int]:
    """The tokens that the base's tokenizer lacks, with its next ids."""
    first = base.next_token if tokens else None
    if first is None or any(True for _ in _misnamed(tokens)):
        return {}
    lacking = [token for token in tokens if token not in base.token_ids]
    return {token: first + at for at, token in enumerate(lacking)}


def ids(tokens: Sequence[str], base: BaseFacts) -> list[int]:
    """The ids of the tokens, in their order."""
    known = {**base.token_ids, **new(tokens, base)}
    return [known[token] for token in tokens]


def n_ends(base: BaseFacts) -> int:
    """How many weights have a row for each token: one where the head is the embedding, else two."""
    from tunesmith.weights.head import is_tied
    from tunesmith.weights.load import empty

    return 1 if is_tied(empty(base.folder)) else 2


def n_added(tokens: Sequence[str], base: BaseFacts) -> int:
    """Rows of the vocabulary beyond those that the embedding has to spare."""
    return max([0, *(one + 1 - base.vocab_size for one in new(tokens, base).values())])


def put_on(model: PreTrainedModel, tokens: Sequence[str], base: BaseFacts) -> None:
    """Give the tokens rows of their own. A new one begins as the mean of those of the pieces that spelt it."""
    from tunesmith.weights.head import is_tied
    from tunesmith.weights.soft_rows import scale_of
    from tunesmith.weights.token_rows import EmbeddingWithRows, HeadWithRows, TokenRows

    ends: tuple[Any, Any] = (model.get_input_embeddings(), model.get_output_embeddings())
    tied, places, pieces = is_tied(model), ids(tokens, base), _pieces(tokens, base)
    rows = TokenRows(places, _start(ends[0].weight, pieces))
    written = rows if tied else TokenRows(places, _start(ends[1].weight, pieces))
    model.set_submodule(base.ends[0], EmbeddingWithRows(ends[0], rows, scale_of(ends[0])))
    model.set_submodule(base.ends[1], HeadWithRows(ends[1], written))


def grow(model: PreTrainedModel, tokens: Sequence[str], base: BaseFacts) -> None:
    """Make room for the new tokens where the embedding has too few rows."""
    n = n_added(tokens, base)
    if n:
        model.resize_token_embeddings(base.vocab_size + n, mean_resizing=False)


def _pieces(tokens: Sequence[str], base: BaseFacts) -> list[list[int]]:
    """The ids that each token is made of for the base; of one that it knows, its own."""
    from tunesmith.text.template import Text

    text = Text.read(base.folder)
    known = base.token_ids
    whole = list(range(base.next_token or base.vocab_size))  # for a text of which a tokenizer leaves nothing
    return [[known[token]] if token in known else text.encode(token) or whole for token in tokens]


def _start(weight: Tensor, pieces: Sequence[Sequence[int]]) -> Tensor:
    import torch

    with torch.no_grad():
        return torch.stack([weight[list(own)].float().mean(0) for own in pieces])


def rows_of(model: nn.Module) -> Mapping[str, Any]:
    """What learns, by the names of PEFT's files."""
    from tunesmith.weights import token_rows

    return {f"{name}.{KEY}": rows for name, rows in token_rows.of(model).items()}


def save(model: nn.Module, file: Path) -> Mapping[str, list[int]]:
    """Write the rows into an adapter's file, beside what is there; the ids by the names of their layers."""
    from safetensors.torch import load_file, save_file

    rows = rows_of(model)
    kept = {name: one.weight.detach().contiguous().cpu() for name, one in rows.items()}
    save_file({**load_file(file), **kept}, file, metadata={"format": "pt"})
    return {name.removesuffix(f".{KEY}").rpartition(".")[2]: one.ids.tolist() for name, one in rows.items()}


def load(model: nn.Module, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the rows of an adapter's file back; what else is in it.

    Raises:
        ValueError: the file has rows of other layers, or of another number of tokens.
    """
    import torch

    rows, left = rows_of(model), dict(kept)
    told = {name: left.pop(name) for name in kept if name.endswith(KEY)}
    if {name: one.weight.shape for name, one in rows.items()} != {name: one.shape for name, one in told.items()}:
        raise ValueError("an adapter of other tokens")
    with torch.no_grad():
        for name, one in rows.items():
            one.weight.copy_(told[name])
    return left
