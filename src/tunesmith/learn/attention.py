"""Attention of documents that lie end to end in one row: each sees itself alone, with no padding and no dense mask.

Documents that begin alike may lie there as a family: what they share comes once, before what each has of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from tunesmith.learn.attention_parts import Laid, parts_of, runs
from tunesmith.learn.merged_attention import merged_attention
from tunesmith.weights import _layers_prefix, facts

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
    documents: Sequence[Laid] | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each document of a row.

    `query` (1, H, T, D), `key` and `value` (1, H_kv, T, D), `documents` take up T tokens. Gives (1, T, H, D). Each
    attends to the layer's prefix too, if it has one.

    Raises:
        NotImplementedError: the model asks for a term that this does not compute (soft cap, sinks, a position bias),
            or for a window that is narrower than a document that shares its beginning.
    """
    refused = [name for name in ("softcap", "s_aux", "position_bias", "cache") if others.get(name) is not None]
    if refused or attention_mask is not None or query.shape[0] != 1:
        raise NotImplementedError(f"attention per document has no {', '.join(refused) or 'mask'}")
    laid = tuple(documents or (Laid((query.shape[2],)),))
    first = [one[None] for one in _layers_prefix.of(module) or ()]  # key and value (1, H_kv, P, D)
    longest = max(one.n_shared + length for one in laid for length in one.lengths)
    on_cpu, asked = query.device.type == "cpu", query.dtype
    if on_cpu and not dropout and (sliding_window or longest) >= longest and key.shape == value.shape:
        n_first = first[0].shape[2] if first else 0
        if first:
            key, value = (torch.cat(pair, dim=2) for pair in zip(first, (key, value), strict=True))
        q, k, v = (one[0].transpose(0, 1).contiguous() for one in (query, key, value))
        return merged_attention(q, k, v, parts_of(laid, n_first), scaling)[None], None
    # On a processor the kernel is slower in bfloat16 where documents are short: benchmarks/attention_dtype.py
    wide = torch.float32 if on_cpu else asked
    query, key, value, *first = (one.to(wide) for one in (query, key, value, *first))
    n_groups = query.shape[1] // key.shape[1]
    if n_groups > 1:
        key, value, *first = (one.repeat_interleave(n_groups, dim=1) for one in (key, value, *first))
    with torch.autocast("cpu", enabled=False) if on_cpu else nullcontext():
        return _one_by_one(query, key, value, laid, sliding_window, dropout, scaling, first).to(asked), None


def _one_by_one(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    laid: Sequence[Laid],
    window: int | None,
    dropout: float,
    scaling: float | None,
    first: Sequence[Tensor],
) -> Tensor:
    """The same by whatever kernel fits; those of one length that lie side by side go through as one batch."""
    made: list[Tensor] = []

    def attend(asking: slice, length: int, seen: Sequence[Tensor]) -> None:
        q, k, v = (one[:, :, asking] for one in (query, key, value))
        made.append(_same_length(q, k, v, length, window, dropout, scaling, seen))

    at = 0
    for one in laid:
        if one.n_shared and window is not None and one.n_shared + max(one.lengths) > window:
            raise NotImplementedError("documents longer than the window of the attention cannot share their beginning")
        seen, shared = list(first), slice(at, at + one.n_shared)
        if one.n_shared:
            attend(shared, one.n_shared, first)
            own = [key[:, :, shared], value[:, :, shared]]
            seen = [torch.cat(pair, 2) for pair in zip(first, own, strict=True)] if first else own
        at += one.n_shared
        for length, count in runs(one.lengths):
            attend(slice(at, at + length * count), length, seen)
            at += length * count
    return torch.cat(made, dim=1)


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


def narrowest_window(model: PreTrainedModel) -> int | None:
    """Tokens that a layer attends to at least; None where all layers see everything before."""
    return facts.narrowest_window(model.config.get_text_config())


def _same_apart(model: PreTrainedModel) -> bool:
    """Two short documents end to end, and two that share their beginning, against each alone, by the model itself.

    Its own proof that nothing leaks. In bfloat16 a beginning that is shared is another order of sums, and what they are
    rounded by may grow large over the layers; there the proof is that nothing of one document moves the other.
    """
    ids, places = torch.arange(12, device=model.device) * 37 + 11, torch.arange(12, device=model.device)
    ids %= model.config.get_text_config().vocab_size
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            together = _logits(model, ids, torch.cat([places[:5], places[:7]]), Laid((5, 7)))
            one, other = (_logits(model, some, places[: len(some)]) for some in (ids[:5], ids[5:]))
            exact = together.dtype == torch.float32
            same = [(together, torch.cat([one, other]), 1e-3 if exact else 5e-2)]
            if (narrowest_window(model) or 7) >= 7:
                shared, laid = torch.cat([places[:5], places[3:7]]), Laid((2, 4), n_shared=3)
                family = _logits(model, ids[:9], shared, laid)
                second = _logits(model, torch.cat([ids[:3], ids[5:9]]), places[:7])
                beside = _logits(model, torch.cat([ids[:3], ids[9:11], ids[5:9]]), shared, laid)
                same.append((family, torch.cat([one, second[3:]]), 1e-3 if exact else 1e-1))
                same.append((family[5:], beside[5:], 1e-3))
    except (NotImplementedError, TypeError, ValueError, RuntimeError):
        return False
    finally:
        model.train(was_training)
    return all(bool((found - wanted).norm() <= bound * wanted.norm()) for found, wanted, bound in same)


def _logits(model: PreTrainedModel, ids: Tensor, positions: Tensor, laid: Laid | None = None) -> Tensor:
    documents = (laid or Laid((len(ids),)),)
    out = model(input_ids=ids[None], position_ids=positions[None], documents=documents, use_cache=False)
    return out.logits[0]  # type: ignore[no-any-return]
