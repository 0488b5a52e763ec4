"""Where in a model a weight stands: in which layer, or at which end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Place:
    """A weight's place. `layer` counts from 0 and is None at the ends; a tied head is an embedding and a head.

    `reached` is the lowest layer that a gradient passes through on its way here: L for what stands after all L layers,
    0 for what stands before them and for what cannot be told.
    """

    count: int
    layer: int | None
    is_embedding: bool
    is_norm: bool
    is_head: bool
    reached: int


def places(model: PreTrainedModel, n_layers: int) -> dict[str, Place]:
    """Each weight by its name, tied ones once. Works on an empty model as well."""
    stack = layers_of(model, n_layers)
    inside = {id(weight): at for at, layer in enumerate(stack or ()) for weight in layer.parameters()}
    embeddings, norms = _weights_of(model, _is_embedding), _weights_of(model, _is_norm)
    end = model.get_output_embeddings()
    head = {id(weight) for weight in end.parameters()} if end is not None else set()
    before, found = True, {}
    for name, weight in model.named_parameters():
        layer = inside.get(id(weight))
        before = before and layer is None
        is_embedding = layer is None and id(weight) in embeddings
        is_norm, is_head = id(weight) in norms, id(weight) in head
        after = not before and not is_embedding and (is_head or is_norm) and "emb" not in name
        reached = layer if layer is not None else n_layers if after else 0
        found[name] = Place(weight.numel(), layer, is_embedding, is_norm, is_head, reached)
    return found


def layers_of(model: PreTrainedModel, n_layers: int) -> nn.ModuleList | None:
    """The list of the model's layers: the first that has as many members; None where there is none."""
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    return next((one for one in lists if len(one) == n_layers), None)


def _weights_of(model: nn.Module, asked: Callable[[nn.Module], bool]) -> set[int]:
    return {id(weight) for module in model.modules() if asked(module) for weight in module.parameters(recurse=False)}


def _is_embedding(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding)


def _is_norm(module: nn.Module) -> bool:
    """Every architecture writes its own, and calls it a norm."""
    return "norm" in type(module).__name__.lower()
