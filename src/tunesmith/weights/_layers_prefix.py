"""Prefixes: learnt keys and values that every token of every row attends to besides the tokens before it.

The tokens keep their positions, masks from outside stay as they are, and a cache holds the tokens' own keys alone: the
attention itself puts the prefix first. A key of it is taken as it is, as if after any norm and rotation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

NAME = "prefixed"
WATCHING = "watching"
UNKNOWN_TERMS = ("softcap", "s_aux", "position_bias", "cache")


class Shape(NamedTuple):
    """What an attention layer's keys and values look like: H_kv heads of `key` and `value` numbers a token."""

    heads: int
    key: int
    value: int

    def numbers(self) -> int:
        """Of one token."""
        return self.heads * (self.key + self.value)


class Pair(nn.Module):
    """The prefix of one layer at rest, or while it learns as it is: `key` (H_kv, P, D) and `value` (H_kv, P, D_v)."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        super().__init__()
        self.key, self.value = nn.Parameter(key), nn.Parameter(value)


class Prefix(nn.Module):
    """Keys and values of each layer that attends, in the order of the model; they stand nowhere else."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(pairs)


class _Made:
    """Keys and values of one layer for the time of one forward pass; what a `Pair` is to a prefix that is made."""

    key: Tensor
    value: Tensor


class ProjectedPrefix(nn.Module):
    """Keys and values made by a small network from a row for each token: Li & Liang 2021, Prefix-Tuning, section 4.3.

    The network's last layer begins at zero and its output, times `spreads`, is added to the first keys and values, so
    that learning begins where that of plain ones does. It runs once a forward pass, and all layers read what it made.
    """

    start: Tensor
    scale: Tensor

    def __init__(
        self, first: Mapping[str, tuple[Tensor, Tensor]], spreads: Mapping[str, tuple[float, float]], width: int
    ) -> None:
        super().__init__()
        flat = torch.cat([_flat(one) for pair in first.values() for one in pair], dim=1)  # (P, all)
        scale = [
            torch.full((_flat(one).shape[1],), spread)
            for name, pair in first.items()
            for one, spread in zip(pair, spreads[name], strict=True)
        ]
        self.register_buffer("start", flat.float())
        self.register_buffer("scale", torch.cat(scale))
        self.embedding = nn.Parameter(torch.randn(len(flat), width))
        last = nn.Linear(width, flat.shape[1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(nn.Linear(width, width), nn.Tanh(), last)
        self.shapes = [(one.shape[0], one.shape[2]) for pair in first.values() for one in pair]
        self.made = {name: _Made() for name in first}

    def forward(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Key (H_kv, P, D) and value (H_kv, P, D_v) of each layer by its name, in float32."""
        with torch.autocast(self.start.device.type, enabled=False):
            flat = self.start + self.scale * self.network(self.embedding)
        parts = flat.split([heads * size for heads, size in self.shapes], dim=1)
        made = [part.unflatten(1, shape).transpose(0, 1) for part, shape in zip(parts, self.shapes, strict=True)]
        return dict(zip(self.made, zip(made[::2], made[1::2], strict=True), strict=True))

    def put_on(self, model: PreTrainedModel) -> None:
        """The model's layers read what this makes before each of its passes."""
        model.prefix = self
        attach(model, self.made)
        self.hook = model.get_decoder().register_forward_pre_hook(self._remake)

    def _remake(self, *_: object) -> None:
        """What was made stays until the next time: activations may be computed again for the backward pass."""
        for name, (key, value) in self().items():
            self.made[name].key, self.made[name].value = key, value


def _flat(one: Tensor) -> Tensor:
    """(H, P, D) to (P, H x D)."""
    return one.transpose(0, 1).flatten(1)


def of(module: nn.Module) -> tuple[Tensor, Tensor] | None:
    """Key (H_kv, P, D) and value (H_kv, P, D_v) that an attention layer's tokens attend to first; None without any."""
    pair = module.__dict__.get("prefix")
    return None if pair is None else (pair.key, pair.value)


def attach(model: PreTrainedModel, pairs: Mapping[str, Pair] | Mapping[str, _Made]) -> None:
    """Give attention layers, by name, their prefix, and make them attend to it.

    A layer gets no more than a reference: as its own submodule a prefix would stand in the state dict twice.
    """
    for name, pair in pairs.items():
        model.get_submodule(name).__dict__["prefix"] = pair
    model.set_attn_implementation(NAME)


def put_on(model: PreTrainedModel, told: Mapping[str, Any]) -> None:
    """An empty prefix of `told["length"]` tokens for the layers of `told["layers"]`, name to `Shape`."""
    n, shapes = int(told["length"]), {name: Shape(*shape) for name, shape in told["layers"].items()}
    pairs = {
        name: Pair(torch.zeros(one.heads, n, one.key), torch.zeros(one.heads, n, one.value))
        for name, one in shapes.items()
    }
    model.prefix = Prefix(pairs.values())
    attach(model, pairs)
    model.get_decoder().register_forward_pre_hook(_count_in_graph, with_kwargs=True)


def _count_in_graph(_: nn.Module, args: tuple[Any, ...], asked: dict[str, Any]) -> tuple[tuple[Any, ...], Any] | None:
    """In a traced graph tokens are counted from 0 by the mask, wherever the one who asks begins to count.

    Transformers.js counts Gemma's from 1, which no rotation notices between tokens, but from the prefix to them.
    """
    mask, ids = asked.get("attention_mask"), asked.get("input_ids")
    if mask is None or ids is None or not torch.compiler.is_exporting():
        return None
    places = (mask.cumsum(-1) - 1).clamp(min=0)
    return args, {**asked, "position_ids": places[:, places.shape[1] - ids.shape[1] :]}


def prefixed(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **others: Any
) -> tuple[Tensor, None]:
    """Attention of `query` (B, H, T, D) over the layer's prefix and `key` (B, H_kv, S, D), `value` (B, H_kv, S, D_v).

    `attention_mask` (B or 1, 1, T, S) says which tokens are seen, by truth or by what is added; None: those before.

    Raises:
        NotImplementedError: the model asks for a term that this does not compute (soft cap, sinks, a position bias).
    """
    refuse_terms(others)
    found = of(module)
    if found is not None:
        attention_mask = _widened(attention_mask, query, key, found[0].shape[1], getattr(module, "is_causal", True))
        n_batch = key.shape[0]
        key, value = (
            torch.cat([first.to(one.dtype).expand(n_batch, -1, -1, -1), one], dim=2)
            for first, one in zip(found, (key, value), strict=True)
        )
    return sdpa_attention_forward(module, query, key, value, attention_mask, **others)


def refuse_terms(others: Mapping[str, Any]) -> None:
    """Terms of an attention that would be dropped in silence."""
    asked = [name for name in UNKNOWN_TERMS if others.get(name) is not None]
    if asked:
        raise NotImplementedError(f"its attention has {', '.join(asked)}, which is not computed beside a prefix")


def _widened(mask: Tensor | None, query: Tensor, key: Tensor, n: int, is_causal: bool) -> Tensor | None:
    """The mask with `n` columns before it that everyone sees; what stood for "those before" is written out."""
    n_asking, n_tokens = query.shape[2], key.shape[2]
    if mask is None:
        if n_asking == 1 or not is_causal:
            return None
        mask = torch.ones(n_asking, n_tokens, dtype=torch.bool, device=query.device).tril()[None, None]
    seen = mask.new_ones if mask.dtype == torch.bool else mask.new_zeros
    return torch.cat([seen((*mask.shape[:-1], n)), mask], dim=-1)


AttentionInterface.register(NAME, prefixed)
AttentionMaskInterface.register(NAME, sdpa_mask)


def watching(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    watch: dict[nn.Module, tuple[Tensor, Tensor]] | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Plain attention that notes in `watch` each layer's keys and values as they enter it."""
    refuse_terms(others)
    if watch is None or module in watch:
        raise NotImplementedError("its attention cannot be followed")
    watch[module] = (key.detach(), value.detach())
    return sdpa_attention_forward(module, query, key, value, attention_mask, **others)


AttentionInterface.register(WATCHING, watching)  # no mask is registered for it: transformers then makes none


def seen(model: PreTrainedModel, ids: Sequence[int]) -> dict[str, tuple[Tensor, Tensor]]:
    """Key (H_kv, T, D) and value (H_kv, T, D_v) of T tokens in each layer that attends, by the layer's name.

    Where positions are rotations the tokens stand right before a row's first one, at -T to -1, so that whoever attends
    to these keys reads the tokens as the beginning of the row.

    Raises:
        NotImplementedError: with why this model's attention has no place for a prefix.
    """
    names = {module: name for name, module in model.named_modules()}
    rotates = any("rotary" in name for name in names.values())
    places = torch.arange(-len(ids), 0) if rotates else torch.arange(len(ids))
    watch: dict[nn.Module, tuple[Tensor, Tensor]] = {}
    before = model.config._attn_implementation
    was_training = model.training
    model.eval()
    try:
        _switch(model, WATCHING)
        rows = torch.tensor([ids])
        asked = {"input_ids": rows, "position_ids": places[None], "attention_mask": torch.ones_like(rows)}
        with torch.no_grad():
            model(**{name: one.to(model.device) for name, one in asked.items()}, use_cache=False, watch=watch)
    finally:
        _switch(model, before)
        model.train(was_training)
    if not watch:
        raise NotImplementedError("no layer of it attends to keys and values of tokens")
    return {names[module]: (key[0], value[0]) for module, (key, value) in watch.items()}


def _switch(model: PreTrainedModel, name: str) -> None:
    can: bool = model._can_set_attn_implementation()  # asked first: transformers would warn of it on the terminal
    if can:
        model.set_attn_implementation(name)
    if model.config._attn_implementation != name:
        raise NotImplementedError("its attention is written out in the model and cannot be changed from outside")


def shapes(folder: Path) -> dict[str, Shape]:
    """The layers of a model that a prefix can stand in, by name, from its config alone.

    Raises:
        NotImplementedError: with why its attention has no place for a prefix.
    """
    from tunesmith.weights.load import empty, quiet

    with quiet():
        try:
            found = seen(empty(folder), [0])
        except NotImplementedError:
            raise
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            why = str(error).strip().splitlines() or [type(error).__name__]
            raise NotImplementedError(f"its attention cannot be followed: {why[0]}") from None
    return {name: shape_of(key, value) for name, (key, value) in found.items()}


def shape_of(key: Tensor, value: Tensor) -> Shape:
    """The shape of keys (H_kv, T, D) and values (H_kv, T, D_v)."""
    return Shape(key.shape[0], key.shape[2], value.shape[2])
