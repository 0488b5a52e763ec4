"""Layers below all that learns give the same in every epoch: computed once for each row, then read back."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunesmith.learn.attention_parts import Laid
from tunesmith.learn.families import Family
from tunesmith.learn.loss import inner
from tunesmith.weights.places import layers_of

Ids = tuple[int, ...]


class Below:
    """The hidden states (T, D) of each row where the lowest layer that learns begins, on the disk.

    A row is known by its tokens. Its place in the file is fixed, and filled when it first goes through.
    """

    def __init__(self, layers: Sequence[nn.Module], begins: Mapping[Ids, int], states: Tensor) -> None:
        self._layers = layers
        self._begins = begins
        self._states = states
        self._filled: set[Ids] = set()
        self._given: Tensor | None = None
        self._made: Tensor | None = None

    @contextmanager
    def passed(self, documents: Sequence[Ids], families: Sequence[Family], laid: Sequence[Laid]) -> Iterator[None]:
        """Within this block these documents go through the layers below, or past them when they have been there.

        They lie end to end by their families. What is new of them is kept afterwards.
        """
        places = list(_places(families, laid))
        if all(ids in self._filled for ids in documents):
            self._given = self._read(documents, places)[None]
        try:
            yield
            if self._given is None and self._made is not None:
                self._write(documents, places, self._made[0])
        finally:
            self._given = self._made = None

    def _read(self, documents: Sequence[Ids], places: Sequence[tuple[int, int, slice]]) -> Tensor:
        n_tokens = max(place.stop for _, _, place in places)
        states = self._states.new_empty(n_tokens, self._states.shape[1])
        for document, first, place in places:
            begin = self._begins[documents[document]] + first
            states[place] = self._states[begin : begin + place.stop - place.start]
        return states

    def _write(self, documents: Sequence[Ids], places: Sequence[tuple[int, int, slice]], states: Tensor) -> None:
        for document, first, place in places:
            ids = documents[document]
            if ids in self._begins and ids not in self._filled:
                begin = self._begins[ids] + first
                self._states[begin : begin + place.stop - place.start] = states[place].detach()
        self._filled.update(ids for ids in documents if ids in self._begins)

    def _forward(self, *args: Any, is_last: bool, known: Callable[..., Any], **kwargs: Any) -> Any:
        """A layer's pass: past it, where the states above are known."""
        if self._given is not None:
            entering = args[0] if args else kwargs["hidden_states"]
            return self._given.to(entering) if is_last else entering
        made = known(*args, **kwargs)
        if is_last:
            self._made = made
        return made

    @contextmanager
    def put_on(self) -> Iterator[None]:
        """The layers pass as this says within this block, and are as they were afterwards."""
        before = [vars(layer).get("forward") for layer in self._layers]
        for layer in self._layers:
            layer.forward = partial(self._forward, is_last=layer is self._layers[-1], known=layer.forward)
        try:
            yield
        finally:
            for layer, forward in zip(self._layers, before, strict=True):
                del layer.forward
                if forward is not None:
                    layer.forward = forward


@contextmanager
def kept_below(model: nn.Module, rows: Sequence[Ids], folder: Path) -> Iterator[Below | None]:
    """Keeps, in a nameless file in `folder`, what the layers of `model` make of the rows below all that learns.

    None where nothing lies below, where the model does not let itself be entered half-way, or where the disk has not
    the room; then all is computed each time.
    """
    layers = _frozen_below(model)
    made = _probed(model, layers)
    if made is None:
        yield None
        return
    begins, n_tokens = dict[Ids, int](), 0
    for ids in rows:
        if ids not in begins:
            begins[ids] = n_tokens
            n_tokens += len(ids)
    with _on_disk(folder, (n_tokens, made.shape[-1]), made.dtype) as states:
        if states is None:
            yield None
            return
        below = Below(layers, begins, states)
        with below.put_on():
            yield below


def _frozen_below(model: nn.Module) -> list[nn.Module]:
    """The first layers of the decoder whose outputs ask for no gradient, as the model itself says."""
    found = inner(model)
    layers = layers_of(found, found.config.get_text_config().num_hidden_layers)
    ask: list[bool] = []
    hooks = [layer.register_forward_hook(lambda *one: ask.append(_asks(one[2]))) for layer in layers or ()]
    try:
        _through(model)
    finally:
        for hook in hooks:
            hook.remove()
    n_frozen = next((at for at, one in enumerate(ask) if one), len(ask))
    return list(layers or ())[:n_frozen]


def _asks(made: Any) -> bool:
    return not isinstance(made, Tensor) or made.requires_grad


def _probed(model: nn.Module, layers: Sequence[nn.Module]) -> Tensor | None:
    """What the last of the layers gives to a probe; None where the model gives another answer when it is put in there.

    Also where it is not the same twice, because something is left to chance.
    """
    if not layers:
        return None
    ids = tuple(range(12))
    one, laid = (Family((0,), 0),), (Laid((len(ids),)),)
    taken: list[Tensor] = []
    hook = layers[-1].register_forward_hook(lambda *one: taken.append(one[2]))
    try:
        with torch.no_grad():
            plain = _through(model)
            again = _through(model)
    finally:
        hook.remove()
    if not torch.equal(taken[0], taken[1]) or not torch.equal(plain, again):
        return None
    probe = Below(layers, {ids: 0}, taken[0][0].new_empty(taken[0].shape[1:]))
    with torch.no_grad(), probe.put_on():
        for _ in range(2):
            with probe.passed([ids], one, laid):
                entered = _through(model)
    return taken[0] if torch.equal(plain, entered) else None


def _through(model: nn.Module) -> Tensor:
    """The last hidden states of a probe of 12 tokens."""
    found = inner(model)
    ids = torch.arange(12, device=next(found.parameters()).device)
    asked = {"input_ids": (ids % found.config.get_text_config().vocab_size)[None], "position_ids": ids[None]}
    made: Tensor = found.get_decoder()(**asked, documents=(Laid((12,)),), use_cache=False).last_hidden_state
    return made


def _places(families: Sequence[Family], laid: Sequence[Laid]) -> Iterator[tuple[int, int, slice]]:
    """(document, its first token there, the place in the row) of all that the documents consist of.

    What a family shares stands once, and is named for each of its documents.
    """
    at = 0
    for family, one in zip(families, laid, strict=True):
        shared = slice(at, at + one.n_shared)
        at = shared.stop
        for document, length in zip(family.rows, one.lengths, strict=True):
            if one.n_shared:
                yield document, 0, shared
            yield document, one.n_shared, slice(at, at + length)
            at += length


@contextmanager
def _on_disk(folder: Path, shape: tuple[int, int], dtype: torch.dtype) -> Iterator[Tensor | None]:
    """A tensor in a file that has all its room from the start and no name: nothing is left of it, whatever comes.

    None where the disk has not the room.
    """
    n_bytes = shape[0] * shape[1] * dtype.itemsize
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            _take_room(file.fileno(), n_bytes)
        except OSError:
            yield None
            return
        held = mmap.mmap(file.fileno(), n_bytes)
        yield torch.frombuffer(held, dtype=dtype).view(shape)


def _take_room(file: int, n_bytes: int) -> None:
    """A file that is written into as memory must not find the disk full: the process would be killed."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, n_bytes)
        return
    block = bytes(1 << 20)
    for first in range(0, n_bytes, len(block)):
        os.write(file, block[: n_bytes - first])
