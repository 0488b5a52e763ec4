from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from tunesmith import files
from tunesmith.errors import Fault
from tunesmith.machine import Machine
from tunesmith.methods._contract import Delivery
from tunesmith.methods._soft import START
from tunesmith.methods._tuning import Tuning
from tunesmith.weights.estimate import Footprint
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

CONFIG, WEIGHTS = "prefix.json", "prefix.safetensors"
WIDTH = 512
SMALL = 0.02
NO_PLACE = (
    "these files have no place for learnt keys and values, and how much a token takes of them depends on the token"
)


class Prefix(Tuning):
    """In every layer some keys and values learn that each token attends to besides the tokens before it.

    Prefix-tuning, Li & Liang 2021; without the projection it is P-tuning v2, Liu et al. 2022. The base stays as it is.
    """

    kind: ClassVar[str] = "prefix"
    learning_rate: ClassVar[float] = 3e-2

    length: PositiveInt = 20
    """Tokens that the prefix is as long as; they take memory and time as tokens do, and no positions."""
    init: Literal["text", "random"] = "text"
    """Where learning starts: from the keys and values that the base computes of `text`, or from small random ones."""
    text: str = Field(default=START, min_length=1)
    """Text that learning starts from, cut or repeated to `length` tokens; best is what you would write as a prompt."""
    projection: bool | PositiveInt = False
    """Width of a network that makes keys and values while they learn; true: 512; false: they learn as they are."""

    @property
    def width(self) -> int:
        """Of the projection; 0 without one."""
        return WIDTH if self.projection is True else int(self.projection)

    def refuse(self, base: BaseFacts, machine: Machine) -> list[Fault]:
        """Attention that has no place for a prefix."""
        try:
            self._shapes(base)
        except NotImplementedError as error:
            what = f"{base.architecture or base.model_type or base.name} has no place for a prefix: {error}"
            return [Fault("method/no-prefix-here", what, fix="set method: prompt, or method: lora", key="method.kind")]
        return []

    def _shapes(self, base: BaseFacts) -> Mapping[str, Any]:
        from tunesmith.weights._layers_prefix import shapes

        return shapes(base.folder)

    def moves(self, base: BaseFacts) -> Mapping[str, int]:
        """Length x the numbers of a token's keys and values in all layers; with a projection, what makes those."""
        n = sum(shape.numbers() for shape in self._shapes(base).values())
        if not self.width:
            return {"keys and values": self.length * n}
        network = (self.width + 1) * self.width + (self.width + 1) * n
        return {"embedding": self.length * self.width, "projection": network}

    def footprint(self, base: BaseFacts) -> Footprint:
        """Each row attends to the prefix as well."""
        return Footprint(n_attended=self.length)

    def wrap(self, model: PreTrainedModel, base: BaseFacts) -> nn.Module:
        """The model with a prefix in each layer that attends; all else stays as it is."""
        from tunesmith.weights import _layers_prefix, additions

        model.requires_grad_(False)
        read = _layers_prefix.seen(model, self._ids(base))
        first = self._first(read)
        spreads = {name: (_spread(key), _spread(value)) for name, (key, value) in read.items()}
        if self.width:
            _layers_prefix.ProjectedPrefix(first, spreads, self.width).put_on(model)
        else:
            additions.put_on(model, _told(first))
            _fill(model, list(first.values()))
            prefix: Any = model.prefix.requires_grad_(True)
            prefix.spreads = list(spreads.values())
        return model

    def _first(self, read: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
        """Key and value (H_kv, P, D) that learning starts from, by the layer's name."""
        import torch

        if self.init == "text":
            return {name: (key.float(), value.float()) for name, (key, value) in read.items()}
        drawn = {name: (torch.randn(key.shape), torch.randn(value.shape)) for name, (key, value) in read.items()}
        return {name: (SMALL * key, SMALL * value) for name, (key, value) in drawn.items()}

    def _ids(self, base: BaseFacts) -> list[int]:
        """The tokens of the text, as many as the prefix is long."""
        from tunesmith.text.template import Text

        ids = Text.read(base.folder).raw(self.text)
        return (ids * -(-self.length // len(ids)))[: self.length]

    def rates(self, model: nn.Module) -> Mapping[str, float]:
        """A layer's keys, and its values, learn in proportion to how large the base's own are there.

        A projection multiplies by those itself. What its network gives adds up over its width, so that the wider it is,
        the slower it learns.
        """
        prefix: Any = model.prefix
        if self.width:
            share = min(1.0, 4 / self.width)
            return {f"prefix.network.{name}": share for name, _ in prefix.network.named_parameters()}
        return {
            f"prefix.layers.{index}.{part}": spread
            for index, pair in enumerate(prefix.spreads)
            for part, spread in zip(("key", "value"), pair, strict=True)
        }

    def save(self, model: nn.Module, into: Path) -> None:
        """What learns, and what it belongs to."""
        from safetensors.torch import save_file

        into.mkdir(parents=True, exist_ok=True)
        prefix: Any = model.prefix
        save_file({name: one.contiguous().cpu() for name, one in prefix.state_dict().items()}, into / WEIGHTS)
        told = {"kind": self.kind, "base": getattr(model, "name_or_path", ""), **self.model_dump(mode="json")}
        files.write_json(into / CONFIG, told)

    def load(self, model: nn.Module, folder: Path) -> None:
        """Put back what learns, all of it."""
        from safetensors.torch import load_file

        prefix: Any = model.prefix
        try:
            prefix.load_state_dict(load_file(folder / WEIGHTS))
        except RuntimeError as error:
            raise ValueError(f"a prefix of another model or length: {error}") from None

    def settle(self, model: nn.Module) -> PreTrainedModel:
        """The keys and values beside the model's own weights; what made them has served."""
        from tunesmith.weights import _layers_prefix, additions

        plain: Any = model.float().eval().requires_grad_(False)
        if isinstance(plain.prefix, _layers_prefix.ProjectedPrefix):
            made = plain.prefix()
            plain.prefix.hook.remove()
            del plain.prefix
            additions.put_on(plain, _told(made))
            _fill(plain, list(made.values()))
        return plain  # type: ignore[no-any-return]

    def delivers(self, base: BaseFacts | None) -> Mapping[str, Delivery]:
        """To the web alone, whose graph holds the keys and values."""
        refused = Delivery("refused", NO_PLACE, instead="prompt")
        web = Delivery("exact", "keys and values stand in the graph")
        return {"safetensors": refused, "gguf": refused, "ollama": refused, "web": web}


def _told(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Any]:
    """The prefix as a model folder names it."""
    from tunesmith.weights._layers_prefix import shape_of

    length = next(iter(pairs.values()))[0].shape[1]
    return {"kind": "prefix", "length": length, "layers": {name: list(shape_of(*pair)) for name, pair in pairs.items()}}


def _spread(one: Tensor) -> float:
    """The root of the mean square."""
    return float(one.float().square().mean().sqrt())


def _fill(model: Any, pairs: list[tuple[Tensor, Tensor]]) -> None:
    import torch

    with torch.no_grad():
        for place, (key, value) in zip(model.prefix.layers, pairs, strict=True):
            place.key.copy_(key)
            place.value.copy_(value)
