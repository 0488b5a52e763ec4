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
from tunesmith.learn.chunked_loss import summed_cross_entropy
from tunesmith.learn.families import Family, Sharing
from tunesmith.learn.kept_memory import Workspace
from tunesmith.text.example import Tokens
from tunesmith.weights.token_rows import HeadWithRows, TokenRows

if TYPE_CHECKING:
    from tunesmith.learn.below import Below

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
