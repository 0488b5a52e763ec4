"""A PEFT adapter that someone else trained, merged into its base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tunesmith.errors import ArtifactError, Fault
from tunesmith.weights.load import load

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS = "adapter_model.safetensors"


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
    except (OSError, ValueError) as error:
        raise ArtifactError(
            Fault(
                "adapter/bad-config",
                f"cannot be read: {error}",
                fix="save the adapter again with save_pretrained",
                file=str(folder / "adapter_config.json"),
            )
        ) from None
    faults = list(_faults(folder, config))
    if faults:
        raise ArtifactError(faults)
    return config


def _faults(folder: Path, config: dict[str, Any]) -> list[Fault]:
    faults = []
    if not (folder / WEIGHTS).is_file():
        what = f"there is no {WEIGHTS}; pickled weights (.bin) are not opened, since a pickle can run code"
        faults.append(
            Fault("adapter/no-safetensors", what, fix="save it again with save_pretrained(folder)", file=str(folder))
        )
    kind = str(config.get("peft_type", "")).upper()
    if kind in (
        "PROMPT_TUNING",
        "P_TUNING",
        "PREFIX_TUNING",
        "MULTITASK_PROMPT_TUNING",
        "CPT",
        "XLORA",
        "POLY",
        "ADAPTION_PROMPT",
    ):
        what = f"an adapter of type {kind} cannot be merged into weights"
        faults.append(
            Fault(
                "adapter/not-mergeable", what, fix="train a LoRA, or another type that PEFT can merge", file=str(folder)
            )
        )
    return faults


def merge_adapter(base: Path, folder: Path) -> PreTrainedModel:
    """The base with the adapter merged in, computed in float32.

    Raises:
        ArtifactError: `adapter/other-base`, when the shapes do not fit this base.
    """
    from peft import PeftModel

    try:
        model = PeftModel.from_pretrained(load(base, torch.float32), str(folder), torch_device="cpu")
    except (RuntimeError, ValueError) as error:
        said = str(error).strip().splitlines()
        raise ArtifactError(
            Fault(
                "adapter/other-base",
                f"the adapter does not fit this base: {said[-1].strip()}",
                fix="name the base it was trained on with --base",
                file=str(folder),
            )
        ) from None
    return model.eval().merge_and_unload(safe_merge=True)  # type: ignore[no-any-return]
