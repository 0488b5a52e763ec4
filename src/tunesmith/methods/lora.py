from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveFloat

from tunesmith.errors import Fault, LearnError
from tunesmith.methods import _pissa
from tunesmith.methods._contract import Delivery
from tunesmith.methods._peft_lora import WEIGHTS, PeftLora, change_config
from tunesmith.weights.estimate import Footprint
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

SEED = 0  # of the numbers that a singular value decomposition draws
FORMS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "pissa": {"init_lora_weights": "pissa_niter_16"},
}
"""The variants in the words of PEFT."""


class Lora(PeftLora):
    """Beside each chosen matrix W (outputs, inputs) a product of two thin ones learns: W + alpha / rank x B A.

    B begins at zero, so that the model begins as the base. At the end the product is added into W.
    """

    kind: ClassVar[str] = "lora"
    learning_rate: ClassVar[float] = 4e-4

    variant: Literal["plain", "rslora", "dora", "pissa"] = "plain"
    """How the update is made: plain; rslora counts it alpha / sqrt(rank) times; dora learns the length of each row of
    W apart; pissa begins with the strongest parts of W instead of nothing."""
    b_rate: PositiveFloat = 1.0
    """Times the rate at which B learns, beside A; LoRA+ takes 16."""

    def _moved(self, name: str, shape: tuple[int, int], base: BaseFacts) -> int:
        """With dora, a length for each output as well."""
        return super()._moved(name, shape, base) + (shape[1] if self.variant == "dora" else 0)

    def footprint(self, base: BaseFacts) -> Footprint:
        """With pissa, B and A as they began are kept beside what they are; with dora, its lengths take room."""
        plain = super().footprint(base)
        if self.variant == "pissa":
            # Rows of tokens move as well, and need no beginning beside them.
            return replace(plain, n_kept=self.trainable(base) - sum(self._rows(base).values()))
        return self._with_lengths(plain, base) if self.variant == "dora" else plain

    def _with_lengths(self, plain: Footprint, base: BaseFacts) -> Footprint:
        linear, rows, names = base.linear_shapes, base.embedding_shapes, self._layers(base)
        # What each layer gives is scaled: its own, the update's, and both together stand.
        outputs = sum(linear[name][1] for name in names if name in linear)
        # The whole update of a layer is made to take its length, by way of a unit matrix.
        updates = [3 * math.prod(rows.get(name) or linear[name]) for name in names]
        units = [linear[name][0] ** 2 for name in names if name in linear]
        work = 4 * (max(updates, default=0) + max(units, default=0))
        return replace(plain, n_left=-(-3 * outputs // base.n_layers), other_bytes=plain.other_bytes + work)

    def wrap(self, model: PreTrainedModel, base: BaseFacts) -> nn.Module:
        """The model with PEFT's layers put in, the updates in float32.

        Raises:
            LearnError: `method/rows-without-length`, for dora on a matrix that has rows of zeros.
        """
        if self.variant == "dora":
            self._have_length(model, base)
        if self.variant != "pissa":
            return self._put_on(model, base, **FORMS[self.variant])
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            wrapped = self._put_on(model, base, **FORMS[self.variant])
        _pissa.note(wrapped)
        return wrapped

    def _have_length(self, model: PreTrainedModel, base: BaseFacts) -> None:
        """A row of zeros, as heads have for tokens that do not occur, has no direction and divides by nothing."""
        for name in self._layers(base):
            weight: Any = model.get_submodule(name).weight
            if name in base.linear_shapes and not weight.any(dim=1).all():
                what = f"{name} has rows of zeros, and dora divides each row by its length"
                fix = f"leave {name.rpartition('.')[2]} out of method.targets, or set method.variant: plain"
                raise LearnError(Fault("method/rows-without-length", what, fix=fix, key="method.variant"))

    def rates(self, model: nn.Module) -> Mapping[str, float]:
        """B of each linear layer learns at a multiple of the rate."""
        if self.b_rate == 1:
            return {}
        return {name: self.b_rate for name, _ in model.named_parameters() if ".lora_B." in name}

    def _save_updates(self, model: nn.Module, into: Path) -> None:
        """The updates as PEFT saves them; those of pissa as plain ones of twice the rank, for the base as it is."""
        super()._save_updates(model, into)
        if self.variant == "pissa":
            from safetensors.torch import load_file, save_file

            save_file(_pissa.beside(load_file(into / WEIGHTS), model), into / WEIGHTS, metadata={"format": "pt"})
            change_config(into, r=2 * self.width, lora_alpha=2 * self.alpha, init_lora_weights=True)

    def _load_updates(self, model: nn.Module, kept: Mapping[str, Any]) -> None:
        if self.variant != "pissa":
            return super()._load_updates(model, kept)
        now, began = _pissa.parted(kept)
        self._put_back(model, now)
        _pissa.begin_with(model, began)

    def settle(self, model: nn.Module) -> PreTrainedModel:
        """The updates and rows in their matrices, in float32; a model that has none is at rest already."""
        return self._merged(model)

    def delivers(self, base: BaseFacts | None) -> Mapping[str, Delivery]:
        """Everywhere: merged, it is a plain model. Some architectures have no head of its own in llama.cpp."""
        how = "merged in float32 and cast once"
        return self._delivered(base, how, f"{how}; the adapter alone stands in adapter/ as PEFT saves it")
