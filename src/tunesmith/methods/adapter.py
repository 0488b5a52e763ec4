from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt

from tunesmith import files
from tunesmith.errors import Fault
from tunesmith.machine import Machine
from tunesmith.methods._contract import Delivery
from tunesmith.methods._tuning import Tuning
from tunesmith.weights.estimate import Footprint
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

CONFIG, WEIGHTS = "adapter.json", "adapter.safetensors"
NO_PLACE = "these files have no place for a layer behind a layer: a model of this architecture knows only its own"
PARALLEL = "{kind: adapter, form: parallel}"


class Adapter(Tuning):
    """In every layer small ones learn, narrow in the middle: beside the MLP, or behind it and behind the attention.

    Their last matrix begins at zero, so that the model begins as the base. The base stays as it is.
    """

    kind: ClassVar[str] = "adapter"
    learning_rate: ClassVar[float] = 1.2e-3

    form: Literal["parallel", "houlsby", "pfeiffer"] = "parallel"
    """Where they stand: parallel, beside the MLP and gated as it is; houlsby, behind attention and behind the MLP;
    pfeiffer, behind the MLP alone."""
    size: PositiveInt = 64
    """Width of the bottleneck, in numbers: how much can be learnt."""
    scale: PositiveFloat = 1.0
    """Strength: what an adapter gives counts this many times."""
    activation: Literal["relu", "gelu", "silu", "tanh"] | None = None
    """What bends the numbers of the bottleneck in houlsby and pfeiffer, relu when left out; parallel has the MLP's."""

    def refuse(self, base: BaseFacts, machine: Machine) -> list[Fault]:
        """Layers that have no such place, and an activation where the MLP's own is taken."""
        faults = []
        if self.form == "parallel" and self.activation:
            what = f"a parallel adapter takes the activation of the MLP, and {self.activation} is asked for"
            fix = "leave method.activation out, or set method.form: pfeiffer"
            faults.append(Fault("method/own-activation", what, fix=fix, key="method.activation"))
        why = self._hindrance(base)
        return [*faults, self._no_place(base, why)] if why else faults

    def _hindrance(self, base: BaseFacts) -> str:
        """Why this base has no such place; nothing where it has."""
        try:
            self._places(base)
        except NotImplementedError as error:
            return str(error)
        return ""

    def _no_place(self, base: BaseFacts, why: str) -> Fault:
        if self.form == "parallel":
            what = f"further neurons cannot be put into {base.architecture or base.name}: {why}"
            fix = "set method: lora, or method: full"
            if not Adapter(form="pfeiffer")._hindrance(base):
                fix = "set method.form: pfeiffer, which goes to the web alone, or method: lora"
            return Fault("method/no-parallel-adapter", what, fix=fix, key="method.form")
        what = f"{base.architecture or base.name} has no place for adapters of form {self.form}: {why}"
        return Fault("method/no-adapter-here", what, fix="set method: lora, or method: full", key="method.form")

    def _places(self, base: BaseFacts) -> Any:
        """The sub-layers that get an adapter; of MLPs that get one beside them, also what their parts are called."""
        from tunesmith.weights._layers_bottleneck import behind, beside

        if self.form == "parallel":
            return beside(base.folder, base.n_layers, self.size)
        return behind(base.folder, base.n_layers, attention=self.form == "houlsby")

    def moves(self, base: BaseFacts) -> Mapping[str, int]:
        """3 x D x R a layer beside the MLP; 2 x D x R + R + D for each one behind a sub-layer."""
        matrix, n = base.hidden_size * self.size, base.n_layers
        if self.form == "parallel":
            return {"beside MLPs": n * 3 * matrix}
        each = n * (2 * matrix + self.size + base.hidden_size)
        return {"behind MLPs": each, **({"behind attention": each} if self.form == "houlsby" else {})}

    def footprint(self, base: BaseFacts) -> Footprint:
        """At rest neurons of whole blocks, or the adapters themselves; and the numbers of each bottleneck."""
        if self.form != "parallel":
            # What enters an adapter behind a sub-layer stands as well.
            each = base.hidden_size + 2 * self.size
            return Footprint(n_added=self.trainable(base), n_left=each * (2 if self.form == "houlsby" else 1))
        from tunesmith.weights._layers_bottleneck import grown_size

        more = grown_size(base.inner_size, self.size) - base.inner_size
        a_neuron = 3 * base.hidden_size + (2 if base.text_config.get("mlp_bias") else 0)
        return Footprint(n_added=base.n_layers * more * a_neuron, n_left=4 * self.size)

    def wrap(self, model: PreTrainedModel, base: BaseFacts) -> nn.Module:
        """The model with adapters hung on its sub-layers; all else stays as it is."""
        from tunesmith.weights import _layers_bottleneck, additions

        model.requires_grad_(False)
        places = self._places(base)
        if self.form == "parallel":
            _layers_bottleneck.put_beside(model, places, self.size, self.scale)
        else:
            activation = self.activation or "relu"
            told = {"size": self.size, "scale": self.scale, "activation": activation, "places": places}
            additions.put_on(model, {"kind": "sequential", **told})
        return model

    def save(self, model: nn.Module, into: Path) -> None:
        """What learns, and what it belongs to."""
        from safetensors.torch import save_file

        into.mkdir(parents=True, exist_ok=True)
        save_file({name: one.contiguous().cpu() for name, one in _learnt(model).items()}, into / WEIGHTS)
        told = {"kind": self.kind, "base": getattr(model, "name_or_path", ""), **self.model_dump(mode="json")}
        files.write_json(into / CONFIG, told)

    def load(self, model: nn.Module, folder: Path) -> None:
        """Put back what learns, all of it."""
        from safetensors.torch import load_file

        places, kept = _learnt(model), load_file(folder / WEIGHTS)
        if {name: one.shape for name, one in places.items()} != {name: one.shape for name, one in kept.items()}:
            raise ValueError("adapters of another model, form or size")
        for name, place in places.items():
            place.copy_(kept[name])

    def settle(self, model: nn.Module) -> PreTrainedModel:
        """Neurons of the MLP from those beside it, in float32; those behind a sub-layer stay as additions."""
        from tunesmith.weights._layers_bottleneck import fold

        plain: Any = model.float().eval().requires_grad_(False)
        fold(plain)
        return plain  # type: ignore[no-any-return]

    def delivers(self, base: BaseFacts | None) -> Mapping[str, Delivery]:
        """Parallel everywhere, as neurons of the MLP; behind a sub-layer to the web alone, as part of the graph."""
        if self.form == "parallel":
            how = "folded into the MLP as further neurons, in float32 and cast once"
            beside = Delivery("exact", f"{how}; the adapters alone stand in adapter/")
            folded = Delivery("exact", how)
            return {"safetensors": beside, "gguf": folded, "ollama": folded, "web": folded}
        refused = Delivery("refused", NO_PLACE, self._instead(base))
        return {
            "safetensors": refused,
            "gguf": refused,
            "ollama": refused,
            "web": Delivery("exact", "layers of the graph"),
        }

    def _instead(self, base: BaseFacts | None) -> str:
        return PARALLEL if base is None or not Adapter(size=self.size)._hindrance(base) else "lora"


def _learnt(model: nn.Module) -> dict[str, Tensor]:
    """The adapters' weights by their names in the model."""
    from tunesmith.weights._layers_bottleneck import adapters

    found = adapters(model).items()
    return {f"{name}.{key}": one for name, adapter in found for key, one in adapter.state_dict().items()}
