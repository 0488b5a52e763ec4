"""Attention of documents that lie end to end in one row: each sees itself alone, with no padding and no dense mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from tunesmith.weights import _layers_prefix

NAME = "per_document"
CAUSAL_KINDS = frozenset({"full_attention", "sliding_attention"})


def per_document(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    document_lengths: Sequence[int] | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each document of a row.

    `query` (1, H, T, D), `key` and `value` (1, H_kv, T, D), `document_lengths` sums to T. Gives (1, T, H, D). Documents
    of one length that lie side by side go through as one batch. Each attends to the layer's prefix, if it has one.

    Raises:
        NotImplementedError: the model asks for a term that this does not compute (soft cap, sinks, a position bias).
    """
    refused = [name for name in ("softcap", "s_aux", "position_bias", "cache") if others.get(name) is not None]
    if refused or attention_mask is not None or query.shape[0] != 1:
        raise NotImplementedError(f"attention per document has no {', '.join(refused) or 'mask'}")
    n_tokens, n_groups, asked = query.shape[2], query.shape[1] // key.shape[1], query.dtype
    on_cpu = query.device.type == "cpu"
    if on_cpu:  # its attention is slower in bfloat16 than in float32, casts included: benchmarks/attention_dtype.py
        query, key, value = (one.float() for one in (query, key, value))
    before = _layers_prefix.of(module) or ()  # key and value (H_kv, P, D)
    first = [one[None].to(own.dtype) for one, own in zip(before, (key, value), strict=False)]
    if n_groups > 1:
        key, value = (one.repeat_interleave(n_groups, dim=1) for one in (key, value))
        first = [one.repeat_interleave(n_groups, dim=1) for one in first]
    runs = [(length, len(list(same))) for length, same in groupby(document_lengths or (n_tokens,))]
    sizes = [length * count for length, count in runs]
    parts = zip(runs, *(one.split(sizes, dim=2) for one in (query, key, value)), strict=True)
    with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():
        made = [
            _same_length(q, k, v, length, sliding_window, dropout, scaling, first) for (length, _), q, k, v in parts
        ]
    return torch.cat(made, dim=1).to(asked), None


def _same_length(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    length: int,
    window: int | None,
    dropout: float,
    scaling: float | None,
    first: Sequence[Tensor],
) -> Tensor:
    """N documents of one length: (1, H, N * length, D) each; gives (1, N * length, H, D).

    `first` holds key and value (1, H, P, D) that each document attends to besides; nothing where there is no prefix.
    """
    _, n_heads, n_tokens, _ = query.shape
    q, k, v = (one.reshape(n_heads, -1, length, one.shape[-1]).transpose(0, 1) for one in (query, key, value))
    n_first = first[0].shape[2] if first else 0
    if first:
        k, v = (torch.cat([one.expand(len(q), -1, -1, -1), own], 2) for one, own in zip(first, (k, v), strict=True))
    if window is None or length <= window:
        if first:  # what the prefix would ask stands before it, so that "those before" is still all that is seen
            q = nn.functional.pad(q, (0, 0, n_first, 0))
        out = scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling)[:, :, n_first:]
    else:
        out = _in_window(q, k, v, window, dropout, scaling, n_first)
    return out.transpose(1, 2).reshape(1, n_tokens, n_heads, -1)  # out (N, H, length, D)


def _in_window(
    query: Tensor, key: Tensor, value: Tensor, window: int, dropout: float, scaling: float | None, n_first: int = 0
) -> Tensor:
    """A token sees the first `n_first` keys, itself and the `window` - 1 before it.

    Block by block, so that no (T, T) mask is made.
    """
    length = query.shape[2]
    blocks = []
    for first in range(0, length, window):
        last, oldest = min(first + window, length), max(first - window + 1, 0)
        asks = torch.arange(first, last, device=query.device)[:, None]
        told = torch.arange(oldest, last, device=query.device)[None, :]
        mask = (told <= asks) & (told > asks - window)
        k, v = (one[:, :, n_first + oldest : n_first + last] for one in (key, value))
        if n_first:
            mask = torch.cat([mask.new_ones(len(mask), n_first), mask], dim=1)
            k, v = (torch.cat([one[:, :, :n_first], own], 2) for one, own in ((key, k), (value, v)))
        blocks.append(
            scaled_dot_product_attention(
                query[:, :, first:last], k, v, attn_mask=mask, dropout_p=dropout, scale=scaling
            )
        )
    return torch.cat(blocks, dim=2)


AttentionInterface.register(NAME, per_document)  # no mask is registered for it: transformers then makes none


@contextmanager
def attending_per_document(model: PreTrainedModel) -> Iterator[bool]:
    """The model attends per document within this block, if it can; gives whether it does. It is as before afterwards.

    It can when its layers are all of known causal kinds and two documents end to end give what each gives alone.
    """
    before = model.config._attn_implementation
    can = _kinds_known(model) and _switch(model, NAME)
    if can and not _same_apart(model):
        _switch(model, before)
        can = False
    try:
        yield can
    finally:
        if can:
            _switch(model, before)


def _kinds_known(model: PreTrainedModel) -> bool:
    """Layers that carry a state along the row, or attend in chunks, are not ours to cut into documents."""
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    return set(kinds) <= CAUSAL_KINDS and getattr(config, "is_causal", True) is not False


def _switch(model: PreTrainedModel, name: str) -> bool:
    try:
        model.set_attn_implementation(name)
    except (ValueError, NotImplementedError):
        return False
    return bool(model.config._attn_implementation == name)


def _same_apart(model: PreTrainedModel) -> bool:
    """Two short documents end to end against each alone, by the model itself: its own proof that nothing leaks."""
    ids = torch.arange(12, device=model.device) % model.config.get_text_config().vocab_size
    lengths = (5, 7)
    positions = torch.cat([torch.arange(length, device=model.device) for length in lengths])
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            together = _logits(model, ids, positions, lengths)
            apart = [_logits(model, ids[:5], positions[:5], (5,)), _logits(model, ids[5:], positions[5:], (7,))]
    except (NotImplementedError, TypeError, ValueError, RuntimeError):
        return False
    finally:
        model.train(was_training)
    bound = 1e-3 if together.dtype == torch.float32 else 5e-2
    return bool((together - torch.cat(apart)).norm() <= bound * together.norm())


def _logits(model: PreTrainedModel, ids: Tensor, positions: Tensor, lengths: Sequence[int]) -> Tensor:
    out = model(input_ids=ids[None], position_ids=positions[None], document_lengths=tuple(lengths), use_cache=False)
    return out.logits[0]  # type: ignore[no-any-return]
