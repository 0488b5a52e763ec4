from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

from pydantic import Field

from tunesmith import rooms
from tunesmith.errors import Fault
from tunesmith.machine import Machine
from tunesmith.methods._contract import Delivery
from tunesmith.methods._moved import Moved
from tunesmith.weights.estimate import Footprint
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from tunesmith.weights.places import Place


class Freeze(Moved):
    """Some weights of the model move, most often those of its last layers, and the others are frozen.

    The backward pass ends at the lowest weight that moves: what lies below goes forward only, and keeps nothing.
    """

    kind: ClassVar[str] = "freeze"
    learning_rate: ClassVar[float] = 3e-4

    layers: Annotated[int, Field(ge=0, strict=True)] | Annotated[float, Field(gt=0, lt=1)] | tuple[int, ...] = 0.25
    """Layers that move: how many of the last (0: none), or the last share of all, rounded up, or a list of numbers
    from 0, where -1 is the last."""
    embeddings: bool = False
    """Whether the embeddings move as well; where the output head is the same weight, it moves with them."""
    head: bool = False
    """Whether the output head moves as well; of a base whose head is the embedding, a copy of it does."""
    norms: bool = False
    """Whether every norm moves, the final one included; those in a layer that moves do so anyway."""
    names: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Further weights that move, by patterns of their full names, such as `*.v_proj.*`."""

    def refuse(self, base: BaseFacts, machine: Machine) -> list[Fault]:
        """Layers and weights that the base has not, and a choice that leaves nothing to learn."""
        weights = self._places(base)
        faults = [*self._no_such_layers(base, weights), *self._unknown(base, weights)]
        if not faults and not self._chosen(base):
            fix = "set method.layers: 0.25, or method.head: true, or name weights in method.names"
            faults.append(Fault("method/nothing-moves", "no weight is chosen, so nothing would learn", fix=fix))
        return faults

    def _no_such_layers(self, base: BaseFacts, weights: Mapping[str, Place]) -> Iterator[Fault]:
        n = base.n_layers
        if self.layers in (0, ()):
            return
        if all(place.layer is None for place in weights.values()):
            what = f"{base.architecture or base.name} has no list of {n} layers to choose from"
            fix = "set method.layers: 0 and name weights in method.names, or set method: full"
            yield Fault("method/no-layer-list", what, fix=fix, key="method.layers")
            return
        if isinstance(self.layers, int) and self.layers > n:
            what = f"the last {self.layers} layers are asked for, and the base has {n}"
            yield Fault("method/no-such-layer", what, fix=f"set method.layers: {n} or less", key="method.layers")
        if isinstance(self.layers, tuple):
            beyond = sorted({layer for layer in self.layers if not -n <= layer < n})
            if beyond:
                what = f"the base has no layer {', '.join(map(str, beyond))}: it has {n}"
                fix = f"choose from 0 to {n - 1}, or from -{n} to -1 counted from the last"
                yield Fault("method/no-such-layer", what, fix=fix, key="method.layers")

    def _unknown(self, base: BaseFacts, weights: Mapping[str, Place]) -> Iterator[Fault]:
        from tunesmith.weights.load import empty

        tied = [name for name, _ in empty(base.folder).named_parameters(remove_duplicate=False) if name not in weights]
        for pattern in self.names:
            if any(fnmatchcase(name, pattern) for name in weights):
                continue
            what, fix = f"no weight of the base has a name like {pattern!r}", _near(pattern, weights)
            if any(fnmatchcase(name, pattern) for name in tied):
                what = f"the head that {pattern!r} names is the embedding itself in {base.name}"
                fix = "set method.head: true for a head of its own, or method.embeddings: true to move both"
            yield Fault("method/unknown-weights", what, fix=fix, key="method.names")

    def _unties(self, base: BaseFacts) -> bool:
        """Whether the head gets a weight of its own: it moves, and the embedding that it was does not."""
        from tunesmith.weights.head import is_tied
        from tunesmith.weights.load import empty

        return self.head and not self.embeddings and is_tied(empty(base.folder))

    def _places(self, base: BaseFacts) -> Mapping[str, Place]:
        """The weights of the model as it will learn."""
        from tunesmith.weights.head import untie
        from tunesmith.weights.load import empty
        from tunesmith.weights.places import places

        model = empty(base.folder)
        if self._unties(base):
            untie(model)
        return places(model, base.n_layers)

    def _numbers(self, n_layers: int) -> frozenset[int]:
        """The layers that move, counted from 0."""
        if isinstance(self.layers, tuple):
            return frozenset(layer % n_layers for layer in self.layers)
        last = self.layers if isinstance(self.layers, int) else math.ceil(round(self.layers * n_layers, 6))
        return frozenset(range(n_layers - last, n_layers))

    def _chosen(self, base: BaseFacts) -> dict[str, tuple[str, Place]]:
        """Each weight that moves, with what it is counted under: the first choice that takes it."""
        numbers = self._numbers(base.n_layers)
        runs = {number: words for words, run in _runs(numbers) for number in run}
        found = {}
        for name, place in self._places(base).items():
            by_name = (pattern for pattern in self.names if fnmatchcase(name, pattern))
            if place.layer in numbers:
                found[name] = runs[place.layer], place
            elif self.embeddings and place.is_embedding:
                found[name] = "embeddings and head, one weight" if place.is_head else "embeddings", place
            elif self.head and place.is_head:
                found[name] = "head", place
            elif self.norms and place.is_norm:
                found[name] = "norms", place
            elif pattern := next(by_name, ""):
                found[name] = pattern, place
        return found

    def moves(self, base: BaseFacts) -> Mapping[str, int]:
        """The weights of each part; none is counted twice."""
        found = dict[str, int]()
        for part, place in self._chosen(base).values():
            found[part] = found.get(part, 0) + place.count
        return found

    def footprint(self, base: BaseFacts) -> Footprint:
        """The head, where it gets a weight of its own; the backward pass ends at the lowest weight that moves."""
        head = base.vocab_size * base.hidden_size if self._unties(base) else 0
        lowest = min((place.reached for _, place in self._chosen(base).values()), default=0)
        return Footprint(n_added=head, lowest=lowest)

    def on_layers(self, base: BaseFacts, layers: Sequence[int]) -> Self:
        """The same with the numbers that its layers have there."""
        numbers = self._numbers(base.n_layers)
        return self.model_copy(update={"layers": tuple(at for at, layer in enumerate(layers) if layer in numbers)})

    def wrap(self, model: PreTrainedModel, base: BaseFacts) -> nn.Module:
        """The model itself; what moves is float32, and what is frozen stays as it comes."""
        from tunesmith.weights.head import untie

        if self._unties(base):
            untie(model)
        moves = self._chosen(base)
        for name, weight in model.named_parameters():
            weight.requires_grad_(name in moves)
            if name in moves:
                weight.data = weight.data.float()
        return model

    def delivers(self, base: BaseFacts | None) -> Mapping[str, Delivery]:
        """Everywhere: it is a plain model. Some architectures have no head of its own in llama.cpp."""
        from tunesmith.weights.head import ALWAYS_TIED

        plain = Delivery("exact", "the weights themselves")
        llama = plain
        if base is not None and base.model_type in ALWAYS_TIED and self._unties(base):
            llama = Delivery("refused", f"llama.cpp knows no head of its own for {base.model_type}", "full")
        return {"safetensors": plain, "gguf": llama, "ollama": llama, "web": plain}


def _runs(numbers: frozenset[int]) -> list[tuple[str, list[int]]]:
    """Layers that follow each other, each run with its words: `layers 24-29`, `layer 3`."""
    runs = [[number for _, number in run] for _, run in groupby(enumerate(sorted(numbers)), lambda at: at[1] - at[0])]
    return [(f"layers {run[0]}-{run[-1]}" if run[1:] else f"layer {run[0]}", run) for run in runs]


def _near(pattern: str, weights: Mapping[str, Place]) -> str:
    """Patterns that would have matched: round the given word, or the nearest names with any layer's number."""
    wider = f"*{pattern.strip('*')}*"
    if any(fnmatchcase(name, wider) for name in weights):
        return f"did you mean {wider!r}?"
    known = {".".join("*" if step.isdigit() else step for step in name.split(".")): name for name in weights}
    return rooms.did_you_mean(pattern, known)
