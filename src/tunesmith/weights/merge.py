"""A PEFT adapter that someone else trained: put on its base, and merged into it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tunesmith.errors import ArtifactError, Fault
from tunesmith.weights import nf4
from tunesmith.weights.head import untie
from tunesmith.weights.load import load

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

WEIGHTS = "adapter_model.safetensors"
SOFT = frozenset({"PROMPT_TUNING", "P_TUNING"})
"""Rows before all tokens: they are merged into no weight, and become tokens of the vocabulary."""
NOT_MERGEABLE = frozenset(
    {"PREFIX_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE", "ADAPTION_PROMPT"} | {"XLORA", "POLY", "LILY"}
)


def is_adapter(folder: Path) -> bool:
    """Whether a folder is what `save_pretrained` of a PEFT model leaves."""
    return (folder / "adapter_config.json").is_file()


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """The adapter's own config.

    Raises:
        ArtifactError: every reason why it cannot be merged safely and exactly, at once.
    """
    try:
        config = dict(json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(
            Fault(
                "adapter/bad-config",
                f"cannot be read: {error}",
                fix="save the adapter again with save_pretrained",
                file=str(folder / "adapter_config.json"),
            )
        ) from None
    faults = [*_weight_faults(folder), *_kind_faults(folder, config)]
    if faults:
        raise ArtifactError(faults)
    return config


def _weight_faults(folder: Path) -> Iterator[Fault]:
    from safetensors import SafetensorError

    if not (folder / WEIGHTS).is_file():
        what = f"there is no {WEIGHTS}; pickled weights (.bin) are not opened, since a pickle can run code"
        yield Fault("adapter/no-safetensors", what, fix="save it again with save_pretrained(folder)", file=str(folder))
        return
    try:
        _shapes(folder)
    except (SafetensorError, OSError) as error:
        what = f"{WEIGHTS} is no whole safetensors file: {error}"
        yield Fault(
            "adapter/damaged", what, fix="fetch it again, whole (where it came by git: git lfs pull)", file=str(folder)
        )


def _kind_faults(folder: Path, config: Mapping[str, Any]) -> Iterator[Fault]:
    nf4.tame()
    from peft import PeftType

    kind = str(config.get("peft_type") or "").upper()
    if kind not in PeftType.__members__:
        what = f"the installed PEFT knows no adapter of type {kind or 'nothing'}"
        yield Fault("adapter/unknown-type", what, fix="pip install -U peft", file=str(folder), key="peft_type")
        return
    why = f"an adapter of type {kind} cannot be merged into weights" if kind in NOT_MERGEABLE else ""
    if config.get("alora_invocation_tokens"):
        why = "an activated LoRA works from a certain token on, and merged weights work everywhere"
    if why:
        fix = "train a LoRA, or another type that PEFT can merge"
        yield Fault("adapter/not-mergeable", why, fix=fix, file=str(folder))


def _shapes(folder: Path) -> dict[str, list[int]]:
    """The adapter's weights by name; only the file's header is read."""
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, framework="pt") as opened:
        return {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118 - not a dict


def base_for(base: Path, folder: Path, *, untied: bool = False) -> PreTrainedModel:
    """The base in float32, as the adapter met it: with the rows of the tokens that were added before it was trained.

    `untied`: the head has weights of its own, equal to the embedding's.
    """
    model = load(base, torch.float32)
    rows = _rows(model, folder)
    if rows is not None:
        model.resize_token_embeddings(rows, mean_resizing=False)
    if untied:
        untie(model)
    return model


def _rows(model: PreTrainedModel, folder: Path) -> int | None:
    """The rows of the embedding where the adapter brings it whole, or the row of a token for which there is none."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    names = [name for name, module in model.named_modules() if any(module is end for end in ends)]
    whole = tuple(f".{name}.{part}weight" for name in names for part in ("", "base_layer.", "modules_to_save."))
    brought = [shape[0] for name, shape in _shapes(folder).items() if name.endswith(whole)]
    if brought:
        return brought[0]
    needed = 1 + max(_single(folder), default=-1)
    known: Any = ends[0].weight
    return needed if needed > len(known) else None


def _single(folder: Path) -> list[int]:
    """The ids of tokens whose rows the adapter brings one by one."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    named = config.get("trainable_token_indices") or config.get("token_indices") or []
    return [one for ids in (named.values() if isinstance(named, dict) else [named]) for one in ids]


def put_on(model: PreTrainedModel, folder: Path) -> PeftModel:
    """The model with the adapter on it.

    Raises:
        ArtifactError: `adapter/other-base`, when the adapter's weights are not those that this base takes.
    """
    nf4.tame()
    from peft import PeftModel

    fix = "name the base it was trained on with --base"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what PEFT warns of here is an error below
            wrapped = PeftModel.from_pretrained(model, str(folder), torch_device="cpu")
            loaded = wrapped.load_adapter(str(folder), "default", torch_device="cpu")
    except Exception as error:  # noqa: BLE001 - some fifty tuners of someone else's, each with errors of its own
        what = f"the adapter does not fit this base: {_last_line(error)}"
        raise ArtifactError(Fault("adapter/other-base", what, fix=fix, file=str(folder))) from None
    # VB-LoRA's bank stands in each layer and is saved once.
    # A soft prompt is put in by another way, and counted among what the second loading did not expect.
    unknown = [name for name in loaded.unexpected_keys if not name.endswith("prompt_embeddings")]
    absent = [name for name in loaded.missing_keys if "vblora_vector_bank" not in name]
    for names, why in (
        (unknown, "has weights that this base has no place for"),
        (absent, "lacks weights"),
    ):
        if names:
            what = f"the adapter {why}: {len(names)}, such as {names[0]}"
            raise ArtifactError(Fault("adapter/other-base", what, fix=fix, file=str(folder)))
    return wrapped.eval()


def merged(model: PeftModel, folder: Path) -> PreTrainedModel:
    """The plain model with the adapter added into its weights.

    Raises:
        ArtifactError: `adapter/not-mergeable`, with what PEFT said.
    """
    try:
        return model.merge_and_unload(safe_merge=True)  # type: ignore[no-any-return]
    except Exception as error:  # noqa: BLE001 - as above
        what = f"PEFT cannot merge it: {_last_line(error)}"
        fix = "check the adapter's weights, or train a LoRA"
        raise ArtifactError(Fault("adapter/not-mergeable", what, fix=fix, file=str(folder))) from None


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
