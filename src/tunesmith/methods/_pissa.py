"""How B and A of PiSSA began: what has been taken out of the base for them, and has to be told with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

PLACE = "pissa_began"


def note(model: nn.Module) -> None:
    """Remember B and A of a model that was just wrapped, under the names of the adapter's file."""
    from peft import get_peft_model_state_dict

    now = get_peft_model_state_dict(model, save_embedding_layers=False)
    setattr(model, PLACE, {name: weight.detach().cpu().clone() for name, weight in now.items()})


def beside(kept: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """B A - B0 A0 as one product of twice the rank, [B, -B0] [A; A0]: an update of the base as it is."""
    import torch

    began: Mapping[str, Tensor] = getattr(model, PLACE)
    told = {}
    for name, weight in kept.items():
        first = -began[name] if _is_b(name) else began[name]
        told[name] = torch.cat((weight, first), dim=_axis(name)).contiguous()
    return told


def parted(kept: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """B and A as they are, and as they began."""
    now, began = {}, {}
    for name, weight in kept.items():
        one, other = weight.chunk(2, dim=_axis(name))
        now[name] = one.contiguous()
        began[name] = (-other if _is_b(name) else other).contiguous()
    return now, began


def begin_with(model: nn.Module, began: Mapping[str, Tensor]) -> None:
    """Take that beginning out of the base instead of the model's own; nothing is touched where they are the same."""
    import torch

    own: Mapping[str, Tensor] = getattr(model, PLACE)
    with torch.no_grad():
        for prefix, layer in model.named_modules():
            names = f"{prefix}.lora_A.weight", f"{prefix}.lora_B.weight"
            if names[0] in began and any(not torch.equal(own[name], began[name]) for name in names):
                _exchange(layer, own[names[1]] @ own[names[0]] - began[names[1]] @ began[names[0]])
    setattr(model, PLACE, dict(began))


def _exchange(layer: Any, change: Tensor) -> None:
    weight = layer.get_base_layer().weight
    (scaling,) = layer.scaling.values()
    weight.copy_(weight.float() + scaling * change.to(weight.device))


def _axis(name: str) -> int:
    """Where the rank is: the rows of A, the columns of B."""
    return 1 if _is_b(name) else 0


def _is_b(name: str) -> bool:
    return "lora_B" in name or "lora_embedding_B" in name
