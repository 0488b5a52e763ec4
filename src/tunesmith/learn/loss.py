"""The loss of documents: which hidden states go to the head, and what it costs to be wrong there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tunesmith.learn.attention_parts import Laid
from tunesmith.learn.families import Family, Sharing
from tunesmith.learn.kept_memory import Workspace
from tunesmith.text.example import Tokens
from tunesmith.weights import estimate
from tunesmith.weights.token_rows import HeadWithRows, TokenRows

if TYPE_CHECKING:
    from tunesmith.learn.below import Below

HEAD_ROWS_AT_ONCE = 4096
"""Tokens whose rows of the head's gradient are made at a time: what they stand in is still in the processor's cache."""
NOTHING = Tokens((0, 0), (0.0, 0.0))  # what a process without rows of its own computes, so that all keep in step


@dataclass(frozen=True)
class Row:
    """Documents laid end to end, those that begin alike as families: T tokens, and K times one is to be predicted."""

    ids: Tensor  # (T,)
    positions: Tensor  # (T,) from 0 in each document
    documents: tuple[Laid, ...]  # they take up T tokens
    kept: Tensor  # (K,) where a learnt token is predicted from
    targets: Tensor  # (K,) ids
    weights: Tensor  # (K,) float32


def lay(documents: Sequence[Tokens], device: torch.device | str = "cpu", *, families: Sequence[Family] = ()) -> Row:
    """Documents end to end, by their families; without any, in the order that they come.

    The first token of each has nothing before it, so it is never a target.
    """
    ids: list[int] = []
    places: list[Tensor] = []
    asked: list[tuple[int, int, float]] = []  # where from, id, weight
    families = families or (Family(tuple(range(len(documents))), 0),)
    for family in families:
        began, n_shared = len(ids), family.n_shared
        ids += documents[family.rows[0]].ids[:n_shared]
        places.append(torch.arange(n_shared))
        for document in (documents[row] for row in family.rows):
            own = len(ids) - n_shared
            places.append(torch.arange(n_shared, len(document.ids)))
            ids += document.ids[n_shared:]
            asked += [
                ((began if at <= n_shared else own) + at - 1, document.ids[at], weight)
                for at, weight in enumerate(document.weights)
                if weight and at
            ]
    kept, targets = (torch.tensor([one[at] for one in asked], dtype=torch.long) for at in (0, 1))
    weights = torch.tensor([one[2] for one in asked], dtype=torch.float32)
    lengths = [len(one.ids) for one in documents]
    laid = tuple(Laid.of(family, lengths) for family in families)
    tensors = torch.tensor(ids, dtype=torch.long), torch.cat(places), kept, targets, weights
    moved = [one.to(device) for one in tensors]
    return Row(moved[0], moved[1], laid, *moved[2:])


class DocumentLoss(nn.Module):
    """A model, asked for the summed loss of documents; what the loop, and whatever spreads it over devices, calls.

    With `together` the documents go through in one row, and the model must be attending per document; else one by one.
    With `sharing` what they begin with alike goes through once; `below` knows what frozen layers make of them.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        dtype: torch.dtype = torch.float32,
        together: bool = True,
        sharing: Sharing | None = None,
        below: Below | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype
        self.together = together
        self.sharing = sharing if together else None
        self.below = below if together else None
        self.has_plain_head = _has_plain_head(inner(model), dtype)
        self.workspace = Workspace()

    def forward(self, documents: Sequence[Tokens]) -> Tensor:
        """Sum over all learnt tokens of weight x cross-entropy, in nats, float32."""
        documents = documents or [NOTHING]
        device = next(self.model.parameters()).device
        if self.together:
            numbers, ids = range(len(documents)), [one.ids for one in documents]
            families = self.sharing.families(numbers, ids) if self.sharing else [Family(tuple(numbers), 0)]
            row = lay(documents, device, families=families)
            with self.below.passed(ids, families, row.documents) if self.below else nullcontext():
                return self._loss(row)
        return torch.stack([self._loss(lay([document], device)) for document in documents]).sum()

    def _loss(self, row: Row) -> Tensor:
        model = inner(self.model)
        asked: dict[str, Any] = {"input_ids": row.ids[None], "position_ids": row.positions[None], "use_cache": False}
        if self.together:
            asked["documents"] = row.documents
        with autocast(row.ids.device, self.dtype):
            if not self.has_plain_head:
                logits = model(**asked, logits_to_keep=row.kept).logits[0]
                return _of_logits(logits, row)
            with _added_to_the_head(model) if len(row.kept) else nullcontext():
                hidden = model.get_decoder()(**asked).last_hidden_state[0].index_select(0, row.kept)  # (K, D)
        head, rows = _head(model)
        return summed_cross_entropy(
            hidden, head, row.targets, row.weights, _cap(model), self.dtype, rows, self.workspace
        )


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Products in `dtype`; nothing to do for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)


def summed_cross_entropy(
    hidden: Tensor,
    head: Tensor,
    targets: Tensor,
    weights: Tensor,
    cap: float | None,
    dtype: torch.dtype,
    rows: TokenRows | None = None,
    workspace: Workspace | None = None,
) -> Tensor:
    """Sum of weight x cross-entropy of `hidden` (K, D) against `targets` (K,) under the output head (V, D).

    Logits exist for a chunk of positions at a time, and their gradient is made in the forward pass, where they are at
    hand; the slopes of several chunks go through the head at once, so that it is read less often. Sums are in float32,
    whatever the type of the products. `cap` is the soft cap of the logits, if any. Tokens of `rows` have those instead
    of the head's own. A call with the `workspace` of an earlier one works in its memory.
    """
    if not len(targets):
        return hidden.sum() * 0.0
    wants_gradient = torch.is_grad_enabled()
    ids, own = (None, None) if rows is None else (rows.ids, rows.weight)
    parts = hidden, head, targets, weights, cap, dtype, wants_gradient, ids, own, workspace or Workspace()
    return _ChunkedLoss.apply(*parts)  # type: ignore[no-any-return]


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: Tensor,
        targets: Tensor,
        weights: Tensor,
        cap: float | None,
        dtype: torch.dtype,
        wants_gradient: bool,
        ids: Tensor | None,
        own: Tensor | None,
        workspace: Workspace,
    ) -> Tensor:
        wants_hidden, wants_head, wants_own = (wants_gradient and ctx.needs_input_grad[at] for at in (0, 1, 8))
        h, head_, own_ = hidden.to(dtype), _in_type(head, dtype, workspace), None if own is None else own.to(dtype)
        grad_hidden = torch.empty_like(h) if wants_hidden else None
        grad_head = torch.empty_like(head, dtype=torch.float32) if wants_head else None
        grad_own = torch.zeros_like(own, dtype=torch.float32) if own is not None and wants_own else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        size = estimate.rows_at_once(estimate.SLOPES_BYTES, len(head), dtype.itemsize)
        slopes = workspace.take("slopes", (min(size, len(h)), len(head)), dtype, head.device)
        for first in range(0, len(targets), size):
            part = slice(first, first + size)
            steep = slopes[: len(h[part])]
            losses = _into_slopes(steep, h[part], head_, targets[part], cap, ids, own_, workspace)
            total += losses @ weights[part]
            if not (wants_hidden or wants_head or wants_own):
                continue
            counted = weights[part, None]
            apart = None if ids is None else steep[:, ids]
            if ids is not None:
                steep[:, ids] = 0.0  # the head's own rows of these tokens have no part in it
            if grad_hidden is not None:
                torch.mm(steep, head_, out=grad_hidden[part])
                if apart is not None and own_ is not None:
                    grad_hidden[part].addmm_(apart, own_)
                grad_hidden[part].mul_(counted)
            if grad_head is not None:
                _add_product(grad_head, steep, (h[part] * counted).to(dtype), workspace, anew=first == 0)
            if grad_own is not None and apart is not None:
                grad_own += apart.T @ (h[part] * counted).to(dtype)
        # Not among the saved tensors: those are held until the graph goes, and what someone else holds is not added to
        # in place by autograd, but copied. A gradient of the head is large.
        ctx.made = (grad_hidden, hidden.dtype), (grad_head, head.dtype), (grad_own, torch.float32)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        made, ctx.made = ctx.made, ()
        grads = [None if grad is None else grad.mul_(upstream[0]).to(dtype) for grad, dtype in made]
        return (*grads[:2], None, None, None, None, None, None, grads[2], None)


def _in_type(head: Tensor, dtype: torch.dtype, workspace: Workspace) -> Tensor:
    if head.dtype == dtype:
        return head
    return workspace.take("head", tuple(head.shape), dtype, head.device).copy_(head)


def _add_product(total: Tensor, one: Tensor, other: Tensor, workspace: Workspace, *, anew: bool) -> None:
    """The one (n, V) turned, times the other (n, D), onto `total` (V, D) or, `anew`, into it."""
    for first in range(0, len(total), HEAD_ROWS_AT_ONCE):
        rows = total[first : first + HEAD_ROWS_AT_ONCE]
        made = workspace.take("rows of the head", tuple(rows.shape), one.dtype, one.device)
        torch.mm(one[:, first : first + HEAD_ROWS_AT_ONCE].T, other, out=made)
        if anew:
            rows.copy_(made)
        else:
            rows += made


def _into_slopes(
    slopes: Tensor,
    h: Tensor,
    head: Tensor,
    targets: Tensor,
    cap: float | None,
    ids: Tensor | None,
    own: Tensor | None,
    workspace: Workspace,
) -> Tensor:
    """Losses (n,) of hidden states (n, D); how each changes with its logits goes into `slopes` (n, V)."""
    size = estimate.rows_at_once(estimate.CHUNK_BYTES, len(head), torch.float32.itemsize)
    wide = workspace.take("wide", (min(size, len(h)), len(head)), torch.float32, h.device)
    losses = []
    for first in range(0, len(h), size):
        part = slice(first, first + size)
        logits = torch.mm(h[part], head.T, out=slopes[part])
        if ids is not None and own is not None:
            logits[:, ids] = h[part] @ own.T
        loss, slope = _cross_entropy(logits, targets[part], cap, wide[: len(logits)])
        losses.append(loss)
        logits.copy_(slope)
    return torch.cat(losses)


def _cross_entropy(logits: Tensor, targets: Tensor, cap: float | None, room: Tensor) -> tuple[Tensor, Tensor]:
    """Losses (n,) of logits (n, V), and their slopes; `room` (n, V), in float32, is where those come to stand."""
    at = targets[:, None]
    z = room.copy_(logits)
    bent = z.div_(cap).tanh_().clone() if cap else None
    torch.softmax(z.mul_(cap) if cap else z, -1, out=z)
    told = z.gather(1, at)[:, 0]
    losses = -told.log()
    unlikely = told < 1e-30  # near the smallest number there is, or beyond
    if unlikely.any():
        far = logits[unlikely].float()
        far = torch.tanh(far / cap) * cap if cap else far
        losses[unlikely] = nn.functional.cross_entropy(far, targets[unlikely], reduction="none")
    z.scatter_add_(1, at, torch.full_like(z[:, :1], -1.0))
    if bent is not None:
        z.mul_(bent.square_().neg_().add_(1.0))
    return losses, z


def _of_logits(logits: Tensor, row: Row) -> Tensor:
    if not len(row.targets):
        return logits.sum() * 0.0
    each = torch.nn.functional.cross_entropy(logits.float(), row.targets, reduction="none")
    return (each * row.weights).sum()


def inner(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside whatever a method put round it."""
    return next(one for one in model.modules() if isinstance(one, PreTrainedModel))


def drops(model: nn.Module) -> bool:
    """Whether something is left out at random while it learns: then no two rows compute the same."""
    config = inner(model).config.get_text_config()
    in_attention = getattr(config, "attention_dropout", 0.0) or getattr(config, "attn_pdrop", 0.0)
    return bool(in_attention) or any(isinstance(one, nn.Dropout) and one.p > 0 for one in model.modules())


def recompute_activations(model: nn.Module) -> None:
    """Keep only what enters each layer that goes backward, and compute the rest again in the backward pass."""
    found = inner(model)
    # transformers 5.17 has the older name alone. Remove when 5.23 is the oldest that is supported.
    switch = getattr(found, "activation_checkpointing_enable", None) or found.gradient_checkpointing_enable
    switch({"use_reentrant": False})
    # It makes the embedding's output ask for a gradient, which only its other way of checkpointing has need of, and
    # with which the backward pass would go through all that is frozen.
    found.disable_input_require_grads()


@contextmanager
def _added_to_the_head(model: PreTrainedModel) -> Iterator[None]:
    """The gradient of an embedding that is the head too comes as the rows of the tokens that are there.

    Autograd adds them to the gradient of the head, which is dense and comes before it. Otherwise they would be
    all rows as well, nearly all of them zeros.
    """
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    if type(embedding) is not nn.Embedding or embedding.weight is not getattr(head, "weight", None):
        yield
        return
    before, embedding.sparse = embedding.sparse, True
    try:
        yield
    finally:
        embedding.sparse = before


def _head(model: PreTrainedModel) -> tuple[Tensor, TokenRows | None]:
    """The weight of the output head (V, D), and the rows that some tokens have of their own."""
    head: Any = model.get_output_embeddings()
    return head.weight, head.rows if isinstance(head, HeadWithRows) else None


def _cap(model: PreTrainedModel) -> float | None:
    return getattr(model.config.get_text_config(), "final_logit_softcapping", None)


def _has_plain_head(model: PreTrainedModel, dtype: torch.dtype) -> bool:
    """Whether the logits are nothing but hidden state times head (and soft cap): asked of the model itself."""
    head: Any = model.get_output_embeddings()
    plain = head.base if isinstance(head, HeadWithRows) else head
    if type(plain) is not nn.Linear or plain.bias is not None:
        return False
    ids = (torch.arange(6, device=model.device) % plain.out_features)[None]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), autocast(model.device, dtype):
            theirs = model(input_ids=ids, use_cache=False).logits[0].float()
            ours = head(model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state[0])
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return False
    finally:
        model.train(was_training)
    cap = _cap(model)
    ours = torch.tanh(ours.float() / cap) * cap if cap else ours.float()
    return bool((ours - theirs).norm() <= 1e-2 * theirs.norm())
