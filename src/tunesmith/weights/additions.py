"""What a model may have beside its own weights: layers and constants that no architecture has a place for.

In a model folder they are `additions.json` (which, and how large) and `additions.safetensors`. Nothing but tunesmith
reads those, so a folder that has them goes into no export that is a plain model; the ONNX graph takes them in.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from tunesmith import files
from tunesmith.errors import ArtifactError, Fault

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONFIG = "additions.json"
WEIGHTS = "additions.safetensors"
KINDS: Mapping[str, str] = {
    "prefix": "tunesmith.weights._layers_prefix",
    "sequential": "tunesmith.weights._layers_bottleneck",
}
"""Each kind's module, whose `put_on(model, told)` gives the model those weights, empty, by the words of the config."""


def read(folder: Path) -> dict[str, Any] | None:
    """What the model of a folder has beside its weights; None for a plain one.

    Raises:
        ArtifactError: `artifact/unknown-additions`, when it was made by a version that knows more kinds.
    """
    try:
        told = dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    if told.get("kind") not in KINDS:
        what = f"the model has {told.get('kind')!r} beside its weights, which this version does not know"
        raise ArtifactError(
            Fault("artifact/unknown-additions", what, fix="pip install -U tunesmith", file=str(folder / CONFIG))
        )
    return told


def put_on(model: PreTrainedModel, told: Mapping[str, Any]) -> None:
    """Give the model places for its additions; whoever calls fills them."""
    known = set(model.state_dict())
    importlib.import_module(KINDS[told["kind"]]).put_on(model, told)
    model.additions = {**told, "weights": sorted(set(model.state_dict()) - known)}  # type: ignore[assignment]


def of(model: PreTrainedModel) -> dict[str, Any] | None:
    """What was put on a model; None for a plain one."""
    return getattr(model, "additions", None)


def fill(model: PreTrainedModel, folder: Path) -> None:
    """Put the weights of a folder's additions into their places, all of them."""
    import torch
    from safetensors.torch import load_file

    kept, places = load_file(folder / WEIGHTS), model.state_dict()
    with torch.no_grad():
        for name in (of(model) or {})["weights"]:
            places[name].copy_(kept.pop(name))
    if kept:
        raise ValueError(f"additions that the model has no place for: {sorted(kept)[:3]}")


def split(model: PreTrainedModel) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The model's own weights, and those of its additions."""
    state = model.state_dict()
    named = (of(model) or {}).get("weights", ())
    return {k: v for k, v in state.items() if k not in named}, {k: state[k].contiguous() for k in named}


def write(model: PreTrainedModel, into: Path) -> None:
    """Beside a saved model, what it has besides; nothing for a plain one."""
    from safetensors.torch import save_file

    told = of(model)
    if told is None:
        return
    save_file(split(model)[1], into / WEIGHTS)
    files.write_json(into / CONFIG, told)
