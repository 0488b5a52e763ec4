"""What LoRA is over any kind of base: which layers get a thin product beside them, and how it is kept."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from tunesmith import rooms
from tunesmith.errors import Fault
from tunesmith.machine import Machine
from tunesmith.methods import _tokens
from tunesmith.methods._contract import Delivery
from tunesmith.methods._tuning import Tuning
from tunesmith.recipe import Auto
from tunesmith.weights.estimate import Footprint
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import nn
    from transformers import PreTrainedModel

WEIGHTS = "adapter_model.safetensors"
USUAL_RANK = 16
COPIES = 4  # of the logits where the head is no plain product: its own, the update, that times its strength, their sum


class PeftLora(Tuning):
    """Beside each chosen matrix W (outputs, inputs) a product of two thin ones learns: W + alpha / rank x B A."""

    rank: PositiveInt | Auto = USUAL_RANK
    """Width of the update, in columns: how much can be learnt; auto: the least that holds the learnt tokens."""
    alpha: PositiveFloat = 32.0
    """Strength of the update: it counts alpha / rank times."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the update's inputs that is left out at random while learning."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Layers that get an update, by the last part of their names; all-linear: each linear layer but the output head."""
    tokens: tuple[str, ...] = ()
    """Texts: tokens whose rows of the embedding and of the head learn whole; those that the base's tokenizer lacks are
    added to it."""

    def refuse(self, base: BaseFacts, machine: Machine) -> list[Fault]:
        """Layers that the base has not, and updates as wide as the layer."""
        shapes = _shapes(base)
        known = _known(base)
        if not known:
            what = f"{base.architecture or base.name} has no linear layer that could get an update"
            return [Fault("method/no-linear-layers", what, fix="set method: full", key="method.kind")]
        names = () if self.targets == "all-linear" else self.targets
        faults = [self._unknown(name, known) for name in names if not _matches(name, shapes)]
        if self.targets == ():
            fix = f"set method.targets: all-linear, or some of {', '.join(known)}"
            faults.append(Fault("method/no-targets", "no layer is named, so nothing would learn", fix=fix))
        narrow = self.narrowest(base)
        if narrow and self.rank != "auto" and self.rank > narrow:
            what = f"rank is {self.rank}, and the narrowest layer has {narrow} columns: a wider update holds no more"
            faults.append(
                Fault("method/rank-too-wide", what, fix=f"set method.rank: {narrow} or less", key="method.rank")
            )
        return [*faults, *_tokens.faults(self.tokens, base, self._layers(base))]

    def narrowest(self, base: BaseFacts) -> int:
        """Columns of the narrowest layer that gets an update; 0 where none does."""
        shapes = _shapes(base)
        return min((min(shapes[name]) for name in self._layers(base)), default=0)

    @property
    def width(self) -> int:
        """The rank; the usual one while it is open."""
        return USUAL_RANK if self.rank == "auto" else self.rank

    def _unknown(self, name: str, known: tuple[str, ...]) -> Fault:
        what = f"the base has no linear layer and no embedding called {name!r}"
        return Fault("method/unknown-target", what, fix=rooms.did_you_mean(name, known), key="method.targets")

    def _layers(self, base: BaseFacts) -> list[str]:
        """The full names of the layers that get an update."""
        if self.targets == "all-linear":
            return [name for name in base.linear_shapes if name != base.ends[1]]
        shapes = _shapes(base)
        return sorted({layer for name in self.targets for layer in _matches(name, shapes)})

    def _unties(self, base: BaseFacts) -> bool:
        """Whether the head gets a weight of its own: one of the two is a target, and they are one weight."""
        from tunesmith.weights.head import is_tied
        from tunesmith.weights.load import empty

        return not set(base.ends).isdisjoint(self._layers(base)) and is_tied(empty(base.folder))

    def moves(self, base: BaseFacts) -> Mapping[str, int]:
        """The sum of rank x (inputs + outputs) over the layers of each name; a row of each end for each token."""
        shapes, found = _shapes(base), dict[str, int]()
        for name in self._layers(base):
            part = name.rpartition(".")[2]
            found[part] = found.get(part, 0) + self._moved(name, shapes[name], base)
        return {**found, **self._rows(base)}

    def _rows(self, base: BaseFacts) -> Mapping[str, int]:
        """The weights of the tokens' rows."""
        if not self.tokens:
            return {}
        return {"tokens": len(self.tokens) * base.hidden_size * _tokens.n_ends(base)}

    def words(self, base: BaseFacts) -> Mapping[str, int]:
        """Those of the tokens that the base's tokenizer lacks."""
        return _tokens.new(self.tokens, base)

    def _moved(self, name: str, shape: tuple[int, int], base: BaseFacts) -> int:
        return self.width * sum(shape)

    def footprint(self, base: BaseFacts) -> Footprint:
        """The head, where it gets a weight of its own; rows of tokens for which there is none to spare."""
        head = base.vocab_size * base.hidden_size if self._unties(base) else 0
        more = _tokens.n_added(self.tokens, base)
        n_added = head + (more * base.hidden_size * _tokens.n_ends(base) if more else 0)
        # Logits are made a chunk at a time, but whole, and several times, where the head has an update.
        n_left_at_end = COPIES * base.vocab_size if base.ends[1] in self._layers(base) else 0
        return Footprint(
            n_added=n_added, other_bytes=4 * n_added, n_left_at_end=n_left_at_end, lowest=self._lowest(base)
        )

    def _lowest(self, base: BaseFacts) -> int:
        """The layer of the lowest target; rows of tokens stand before all layers."""
        if self.tokens or self.targets == "all-linear":
            return 0
        from tunesmith.weights.load import empty
        from tunesmith.weights.places import places

        weights = places(empty(base.folder), base.n_layers)
        found = [weights.get(f"{name}.weight") for name in self._layers(base)]
        return min((place.reached if place else 0 for place in found), default=0)

    def _put_on(self, model: PreTrainedModel, base: BaseFacts, **options: Any) -> PeftModel:
        """The model with PEFT's layers put in, the updates in float32."""
        from tunesmith.weights import nf4
        from tunesmith.weights.head import untie

        nf4.tame()
        from peft import LoraConfig, TaskType, get_peft_model

        if self._unties(base):
            untie(model)
        _tokens.grow(model, self.tokens, base)
        targets = "all-linear" if self.targets == "all-linear" else list(self.targets)
        config = LoraConfig(
            r=self.width,
            lora_alpha=int(self.alpha) if self.alpha == int(self.alpha) else self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=targets,
            task_type=TaskType.CAUSAL_LM,
            **options,
        )
        with warnings.catch_warnings():
            # PEFT 0.21 reads a name that transformers has renamed. Remove when PEFT has followed.
            warnings.simplefilter("ignore", FutureWarning)
            wrapped = get_peft_model(model, config)
        if self.tokens:
            _tokens.put_on(model, self.tokens, base)
        return wrapped

    def save(self, model: nn.Module, into: Path) -> None:
        """The adapter as PEFT saves it, with the rows of tokens under the names that PEFT gives them."""
        self._save_updates(model, into)
        if self.tokens:
            change_config(into, trainable_token_indices=_tokens.save(model, into / WEIGHTS))

    def _save_updates(self, model: nn.Module, into: Path) -> None:
        # Without the flag PEFT asks the Hub whether the base's vocabulary has grown.
        model.save_pretrained(str(into), save_embedding_layers=False)  # type: ignore[operator]

    def load(self, model: nn.Module, folder: Path) -> None:
        """Put an adapter's weights back, all of them."""
        from safetensors.torch import load_file

        self._load_updates(model, _tokens.load(model, load_file(folder / WEIGHTS)))

    def _load_updates(self, model: nn.Module, kept: Mapping[str, Any]) -> None:
        self._put_back(model, kept)

    def _put_back(self, model: nn.Module, kept: Mapping[str, Any]) -> None:
        from peft import set_peft_model_state_dict

        result: Any = set_peft_model_state_dict(model, dict(kept))
        missing = [name for name in result.missing_keys if "lora_" in name]
        if missing or result.unexpected_keys:
            raise ValueError(f"an adapter of other layers: {[*missing, *result.unexpected_keys][:3]}")

    def _merged(self, model: nn.Module) -> PreTrainedModel:
        """The updates added into their matrices and the rows put into theirs, in float32."""
        from peft import PeftModel

        from tunesmith.weights import token_rows

        if not isinstance(model, PeftModel):
            return model  # type: ignore[return-value]
        merged: PreTrainedModel = model.float().eval().merge_and_unload(safe_merge=True)
        token_rows.rest(merged)
        return merged

    def _delivered(self, base: BaseFacts | None, how: str, beside: str) -> Mapping[str, Delivery]:
        """Everywhere, but to llama.cpp with a head of its own where that knows none for the architecture."""
        from tunesmith.weights.head import ALWAYS_TIED

        llama = merged = Delivery("exact", how)
        if base is not None and base.model_type in ALWAYS_TIED and self._unties(base):
            llama = Delivery("refused", f"llama.cpp knows no head of its own for {base.model_type}", "full")
        return {"safetensors": Delivery("exact", beside), "gguf": llama, "ollama": llama, "web": merged}


def change_config(folder: Path, **changes: Any) -> None:
    """Change values in the config of a saved adapter."""
    from tunesmith import files

    path = folder / "adapter_config.json"
    files.write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


def _shapes(base: BaseFacts) -> Mapping[str, tuple[int, int]]:
    """(inputs, outputs) of all that can get an update."""
    return {**base.linear_shapes, **base.embedding_shapes}


def _matches(name: str, shapes: Mapping[str, tuple[int, int]]) -> list[str]:
    return [layer for layer in shapes if layer == name or layer.endswith(f".{name}")]


def _known(base: BaseFacts) -> tuple[str, ...]:
    """What layers can be called here; nothing where only the head is linear."""
    linear = [name for name in base.linear_shapes if name != base.ends[1]]
    return tuple(dict.fromkeys(name.rpartition(".")[2] for name in (*linear, *base.ends) if name)) if linear else ()
