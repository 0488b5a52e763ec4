from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from tunesmith import rooms
from tunesmith.errors import Fault
from tunesmith.machine import Machine
from tunesmith.methods._contract import Delivery
from tunesmith.methods._tuning import Tuning
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Lora(Tuning):
    """Beside each chosen matrix W (outputs, inputs) a product of two thin ones learns: W + alpha / rank x B A.

    B begins at zero, so that the model begins as the base. At the end the product is added into W.
    """

    kind: ClassVar[str] = "lora"
    learning_rate: ClassVar[float] = 4e-4

    rank: PositiveInt = 16
    """Width of the update, in columns: how much can be learnt."""
    alpha: PositiveFloat = 32.0
    """Strength of the update: it counts alpha / rank times."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the update's inputs that is left out at random while learning."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Layers that get an update, by the last part of their names; all-linear: each linear layer but the output head."""

    def refuse(self, base: BaseFacts, machine: Machine) -> list[Fault]:
        """Layers that the base has not, a head that is the embedding as well, and updates as wide as the layer."""
        shapes = base.linear_shapes
        known = _known(base)
        if not known:
            what = f"{base.architecture or base.name} has no linear layer that could get an update"
            return [Fault("method/no-linear-layers", what, fix="set method: full", key="method.kind")]
        names = () if self.targets == "all-linear" else self.targets
        faults = [self._unknown(name, known) for name in names if not _matches(name, shapes)]
        head = _head(base)
        if base.tied and any(head in _matches(name, shapes) for name in names):
            what = f"{head!r} is the embedding itself in {base.name}, and an update of one would move both"
            faults.append(
                Fault("method/tied-head", what, fix=f"leave {head} out of method.targets", key="method.targets")
            )
        if self.targets == ():
            fix = f"set method.targets: all-linear, or some of {', '.join(known)}"
            faults.append(Fault("method/no-targets", "no layer is named, so nothing would learn", fix=fix))
        narrow = min((min(shapes[name]) for name in self._layers(base)), default=0)
        if narrow and self.rank > narrow:
            what = f"rank is {self.rank}, and the narrowest layer has {narrow} columns: a wider update holds no more"
            faults.append(
                Fault("method/rank-too-wide", what, fix=f"set method.rank: {narrow} or less", key="method.rank")
            )
        return faults

    def _unknown(self, name: str, known: tuple[str, ...]) -> Fault:
        what = f"the base has no linear layer called {name!r}"
        return Fault("method/unknown-target", what, fix=rooms.did_you_mean(name, known), key="method.targets")

    def _layers(self, base: BaseFacts) -> list[str]:
        """The full names of the layers that get an update."""
        shapes = base.linear_shapes
        if self.targets == "all-linear":
            return [name for name in shapes if name != _head(base)]
        return sorted({layer for name in self.targets for layer in _matches(name, shapes)})

    def moves(self, base: BaseFacts) -> Mapping[str, int]:
        """The sum of rank x (inputs + outputs) over the layers of each name."""
        shapes, found = base.linear_shapes, dict[str, int]()
        for name in self._layers(base):
            part = name.rpartition(".")[2]
            found[part] = found.get(part, 0) + self.rank * sum(shapes[name])
        return found

    def wrap(self, model: PreTrainedModel, base: BaseFacts) -> nn.Module:
        """The model with PEFT's layers put in, the updates in float32."""
        from peft import LoraConfig, TaskType, get_peft_model

        targets = "all-linear" if self.targets == "all-linear" else list(self.targets)
        config = LoraConfig(
            r=self.rank,
            lora_alpha=int(self.alpha) if self.alpha == int(self.alpha) else self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=targets,
            task_type=TaskType.CAUSAL_LM,
        )
        with warnings.catch_warnings():
            # PEFT 0.21 reads a name that transformers has renamed. Remove when PEFT has followed.
            warnings.simplefilter("ignore", FutureWarning)
            return get_peft_model(model, config)

    def save(self, model: nn.Module, into: Path) -> None:
        """The adapter as PEFT saves it."""
        # Without the flag PEFT asks the Hub whether the base's vocabulary has grown.
        model.save_pretrained(str(into), save_embedding_layers=False)  # type: ignore[operator]

    def load(self, model: nn.Module, folder: Path) -> None:
        """Put an adapter's weights back, all of them."""
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        result: Any = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
        missing = [name for name in result.missing_keys if "lora_" in name]
        if missing or result.unexpected_keys:
            raise ValueError(f"an adapter of other layers: {[*missing, *result.unexpected_keys][:3]}")

    def settle(self, model: nn.Module) -> PreTrainedModel:
        """The updates added into their matrices, in float32; a model that has none is at rest already."""
        from peft import PeftModel

        if not isinstance(model, PeftModel):
            return model  # type: ignore[return-value]
        return model.float().eval().merge_and_unload(safe_merge=True)  # type: ignore[no-any-return]

    def delivers(self, base: BaseFacts | None) -> Mapping[str, Delivery]:
        """Everywhere: merged, it is a plain model."""
        how = "merged in float32 and cast once"
        merged = Delivery("exact", how)
        beside = Delivery("exact", f"{how}; the adapter alone stands in adapter/ as PEFT saves it")
        return {"safetensors": beside, "gguf": merged, "ollama": merged, "web": merged}


def _matches(name: str, shapes: Mapping[str, tuple[int, int]]) -> list[str]:
    return [layer for layer in shapes if layer == name or layer.endswith(f".{name}")]


def _head(base: BaseFacts) -> str:
    """The name of the output head: the linear layer whose outputs are the vocabulary."""
    return next(
        (name for name, shape in base.linear_shapes.items() if shape == (base.hidden_size, base.vocab_size)), ""
    )


def _known(base: BaseFacts) -> tuple[str, ...]:
    """What layers can be called here, the head left out."""
    head = _head(base)
    return tuple(dict.fromkeys(name.rpartition(".")[2] for name in base.linear_shapes if name != head))
