"""Bottleneck adapters: small layers beside or behind the sub-layers of each decoder layer.

Each hangs on its sub-layer by a hook and stands in it as the submodule `adapter`, so that the base's weights keep their
names.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from tunesmith.weights.load import empty
from tunesmith.weights.places import layers_of

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

ADAPTER = "adapter"
ATTENTION = ("self_attn", "attn", "attention", "self_attention")
MLP = ("mlp", "feed_forward", "ffn", "block_sparse_moe")
BLOCK = 256  # neurons: quantised types of llama.cpp round the rows of the last product in blocks of as many


class Behind(nn.Module):
    """y + scale x (U act(D y + d) + u) of y (B, T, D), what a sub-layer gives: Houlsby 2019, Pfeiffer 2020.

    `down` holds D (R, D) and d, `up` holds U (D, R) and u; the latter begin at zero, so that y comes out as it came in.
    """

    def __init__(self, width: int, size: int, activation: str, scale: float) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)
        self.act, self.scale = ACT2FN[activation], scale
        for weight in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(weight)

    def forward(self, y: Tensor) -> Tensor:
        """As large as what the sub-layer gave, and of its type."""
        made: Tensor = self.up(self.act(self.down(_entering(y, self.down.weight))))
        return y + self.scale * made.to(y.dtype)


class Beside(nn.Module):
    """y + scale x B(act(Ag x) * (Au x)) of what an MLP reads, x, and gives, y (B, T, D): parallel, He et al. 2021.

    It is gated as the MLP is: `gate` holds Ag (R, D), `up` Au (R, D), and `down` B (D, R), which begins at zero.
    """

    def __init__(self, width: int, size: int, parts: Gated, act: nn.Module, scale: float) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, size, bias=False), nn.Linear(width, size, bias=False)
        self.down = nn.Linear(size, width, bias=False)
        self.parts, self.act, self.scale = parts, act, scale
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """As large as what the MLP gave, and of its type."""
        x = _entering(x, self.gate.weight)
        made: Tensor = self.down(self.act(self.gate(x)) * self.up(x))
        return y + self.scale * made.to(y.dtype)


def _entering(x: Tensor, weight: Tensor) -> Tensor:
    """In the type of the weights; where types are chosen for each product, as it is."""
    return x if torch.is_autocast_enabled(x.device.type) else x.to(weight.dtype)


def _behind(sublayer: Any, _inputs: object, output: Any) -> Any:
    """Attention and mixtures of experts give more than one thing; what goes on is the first."""
    if isinstance(output, tuple):
        return (sublayer.adapter(output[0]), *output[1:])
    return sublayer.adapter(output)


def _beside(sublayer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Any:
    return sublayer.adapter(inputs[0], output)


def put_on(model: PreTrainedModel, told: Mapping[str, Any]) -> None:
    """Adapters of `told["size"]` behind the sub-layers that `told["places"]` names."""
    width = model.config.get_text_config().hidden_size
    for name in told["places"]:
        _hang(model.get_submodule(name), Behind(width, told["size"], told["activation"], told["scale"]), _behind)


def put_beside(model: PreTrainedModel, places: Mapping[str, Gated], size: int, scale: float) -> None:
    """Gated adapters beside the MLPs of `places`."""
    width = model.config.get_text_config().hidden_size
    for name, parts in places.items():
        mlp = model.get_submodule(name)
        _hang(mlp, Beside(width, size, parts, getattr(mlp, parts.act), scale), _beside)


def _hang(sublayer: nn.Module, adapter: Any, hook: Any) -> None:
    adapter.to(next(sublayer.parameters()).device)
    sublayer.adapter = adapter
    adapter.hook = sublayer.register_forward_hook(hook)


def adapters(model: nn.Module) -> dict[str, Behind | Beside]:
    """Each adapter by its name in the model."""
    return {name: one for name, one in model.named_modules() if isinstance(one, Behind | Beside)}


class Gated(NamedTuple):
    """What the parts of an MLP are called that computes down(act(gate x) * (up x)); gate and up may be one matrix."""

    gate: str
    up: str
    down: str
    act: str


def sublayers(model: PreTrainedModel, n_layers: int, known: tuple[str, ...], word: str) -> dict[str, nn.Module]:
    """By its full name, the member of each layer that is called as one of `known`.

    Raises:
        NotImplementedError: a layer has none, or one that adds the residual itself.
    """
    stack, names = layers_of(model, n_layers), {module: name for name, module in model.named_modules()}
    if stack is None:
        raise NotImplementedError(f"it has no list of {n_layers} layers")
    found = {}
    for at, layer in enumerate(stack):
        one = next((member for name, member in layer.named_children() if name in known), None)
        if one is None:
            raise NotImplementedError(f"its layer {at} has no {word} that is a module of its own")
        if "residual" in inspect.signature(one.forward).parameters:
            raise NotImplementedError(f"its {word} adds the residual itself")
        found[names[one]] = one
    return found


def behind(folder: Path, n_layers: int, *, attention: bool) -> list[str]:
    """The sub-layers that adapters can stand behind: MLPs, and with `attention` those as well.

    Raises:
        NotImplementedError: with why there is no such place.
    """
    model = empty(folder)
    kinds = [(MLP, "MLP"), *([(ATTENTION, "attention")] if attention else [])]
    found = {name for known, word in kinds for name in sublayers(model, n_layers, known, word)}
    return [name for name, _ in model.named_modules() if name in found]


def beside(folder: Path, n_layers: int, size: int) -> dict[str, Gated]:
    """The MLPs that can take `size` further neurons each, so that it is still the same architecture.

    Raises:
        NotImplementedError: with why they cannot.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    model = empty(folder)
    found = {name: gated(mlp) for name, mlp in sublayers(model, n_layers, MLP, "MLP").items()}
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    text = config.get_text_config()
    widths = {int(getattr(model.get_submodule(name), parts.down).in_features) for name, parts in found.items()}
    if [text.intermediate_size] != list(widths):
        told = f"{', '.join(map(str, sorted(widths)))} wide, and its config says {text.intermediate_size}"
        raise NotImplementedError(f"its MLPs are {told}")
    text.intermediate_size = grown_size(text.intermediate_size, size)
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    for name, parts in found.items():
        _grow(model.get_submodule(name), parts, text.intermediate_size, None)
    if _shapes(made) != _shapes(model):
        raise NotImplementedError("the width of its MLPs decides other weights as well")
    return found


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in model.state_dict().items()}


def gated(mlp: nn.Module) -> Gated:
    """The parts of an MLP, once it has shown on small numbers that it computes what a gated one does.

    Raises:
        NotImplementedError: it computes something else, with what.
    """
    parts = dict(mlp.named_children())
    if "experts" in parts:
        raise NotImplementedError("its MLP is a mixture of experts")
    halves = ("gate_up_proj",) * 2 if "gate_up_proj" in parts else ("gate_proj", "up_proj")
    act = next((name for name in ("act_fn", "activation_fn") if name in parts), "")
    found = Gated(*halves, "down_proj", act)
    if not set(found) <= set(parts) or not all(type(parts[name]) is nn.Linear for name in found[:3]):
        raise NotImplementedError("its MLP is not made of gate_proj, up_proj, down_proj and an activation")
    if {name.split(".")[0] for name, _ in mlp.named_parameters()} != set(found[:3]):
        raise NotImplementedError("its MLP has weights besides those of gate, up and down")
    if not _computes(mlp, found):
        raise NotImplementedError("its MLP computes something else than down(act(gate x) * (up x))")
    return found


def _computes(mlp: nn.Module, parts: Gated) -> bool:
    small = copy.deepcopy(mlp).eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        inner = 16 if parts.gate != parts.up else 32
        for name, shape in ((parts.gate, (8, inner)), (parts.up, (8, inner)), (parts.down, (16, 8))):
            setattr(small, name, nn.Linear(*shape, bias=getattr(mlp, name).bias is not None, device="cpu"))
        x = 3 * torch.randn(1, 5, 8)
        gate, up = _halves(small, parts, x)
        wanted = getattr(small, parts.down)(getattr(small, parts.act)(gate) * up)
        try:
            return torch.allclose(small(x), wanted, atol=1e-5)
        except (NotImplementedError, RuntimeError, TypeError, ValueError):
            return False


def _halves(mlp: nn.Module, parts: Gated, x: Tensor) -> tuple[Tensor, Tensor]:
    if parts.gate != parts.up:
        return getattr(mlp, parts.gate)(x), getattr(mlp, parts.up)(x)
    gate, up = getattr(mlp, parts.gate)(x).chunk(2, dim=-1)
    return gate, up


def grown_size(inner: int, size: int) -> int:
    """Neurons of an MLP of `inner` once it has taken in `size` more: the next whole number of blocks."""
    return -(-(inner + size) // BLOCK) * BLOCK


def fold(model: PreTrainedModel) -> None:
    """The adapters beside MLPs become neurons of those, exactly; where there are none, nothing happens.

    What fills up the last block are neurons of zeros, which give act(0) x 0.
    """
    config = model.config.get_text_config()
    mlps = [(name, mlp) for name, mlp in model.named_modules() if isinstance(getattr(mlp, ADAPTER, None), Beside)]
    for _, mlp in mlps:
        adapter: Any = mlp.adapter
        adapter.hook.remove()
        del mlp.adapter
        size = grown_size(config.intermediate_size, adapter.gate.out_features)
        _grow(mlp, adapter.parts, size, adapter)
    if mlps:
        config.intermediate_size = size


def _grow(mlp: Any, parts: Gated, size: int, adapter: Beside | None) -> None:
    """The MLP with `size` neurons: its own, those of the adapter, and then zeros."""
    down = getattr(mlp, parts.down)
    inner = down.in_features
    told = (adapter.gate.weight, adapter.up.weight, adapter.scale * adapter.down.weight.T) if adapter else (None,) * 3
    if parts.gate == parts.up:
        both = getattr(mlp, parts.gate)
        halves = zip(both.weight.chunk(2), told[:2], strict=True)
        weight = torch.cat([_rows(half, more, size) for half, more in halves])
        bias = None if both.bias is None else torch.cat([_rows(half, None, size) for half in both.bias.chunk(2)])
        setattr(mlp, parts.gate, _linear(weight, bias))
    else:
        for name, more in zip((parts.gate, parts.up), told[:2], strict=True):
            old = getattr(mlp, name)
            bias = None if old.bias is None else _rows(old.bias, None, size)
            setattr(mlp, name, _linear(_rows(old.weight, more, size), bias))
    setattr(mlp, parts.down, _linear(_rows(down.weight.T, told[2], size).T, down.bias))
    if getattr(mlp, "intermediate_size", None) == inner:
        mlp.intermediate_size = size


def _rows(own: Tensor, more: Tensor | None, size: int) -> Tensor:
    """(n, ...) with further rows and then zeros, `size` in all."""
    made = own.new_zeros(size, *own.shape[1:])
    if not made.is_meta:
        made[: len(own)] = own.detach()
        if more is not None:
            made[len(own) : len(own) + len(more)] = more.detach()
    return made


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return made
