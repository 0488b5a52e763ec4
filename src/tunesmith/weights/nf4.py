"""Linear layers whose weights stand in four bits: NF4 of QLoRA (arXiv 2305.14314), by bitsandbytes."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 64  # weights that share a scale
BLOCKS = 256  # scales, of 8 bits, that share one of their own
TABLES = 4 * (256 + 16 + 1)  # bytes a layer: the values that the scales and the weights can have, and the scales' mean


def is_here() -> bool:
    """Whether bitsandbytes is installed."""
    return importlib.util.find_spec("bitsandbytes") is not None


def library() -> ModuleType:
    """The package bitsandbytes. Whoever imports PEFT calls this first, where it is installed: PEFT imports it.

    On processors with AVX512-BF16 its import fetches a kernel from the Hub where the package `kernels` is installed,
    and complains where it is not. That kernel is of no use here, so nothing is fetched.
    https://github.com/bitsandbytes-foundation/bitsandbytes, backends/cpu/ops.py of 0.50. Remove when it asks first.
    """
    if "bitsandbytes" not in sys.modules:
        with _absent("kernels"), _quiet("bitsandbytes.backends.cpu.ops"):
            return importlib.import_module("bitsandbytes")
    return sys.modules["bitsandbytes"]


def tame() -> None:
    """Import bitsandbytes as `library` does, where it is installed, before someone else imports it."""
    if is_here():
        library()


@contextmanager
def _absent(name: str) -> Iterator[None]:
    """Within this block a package is as if it were not installed."""
    before = {name: sys.modules[name]} if name in sys.modules else {}
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        sys.modules.update(before)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def n_bytes(sizes: Iterable[int]) -> int:
    """What layers of so many weights take in NF4: half a byte a weight, and its scales in two steps; no bias."""
    return sum(-(-n // 2) + -(-n // BLOCK) + 4 * -(-n // (BLOCK * BLOCKS)) + TABLES for n in sizes)


def quantise(model: nn.Module, names: Iterable[str]) -> None:
    """Put the weights of linear layers into NF4, one layer after the other, so that memory falls as it goes on.

    The weights go through bfloat16 first: loaded in float32 or in bfloat16, a base has the same four bits.
    """
    for name in names:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        _put(model, name, _quantised(layer))


def _quantised(layer: nn.Linear) -> nn.Module:
    bnb: Any = library()
    dtype, width = layer.weight.dtype, (layer.in_features, layer.out_features)
    made: nn.Module = bnb.nn.Linear4bit(*width, bias=False, compute_dtype=dtype, quant_type="nf4", device="meta")
    # On a processor, an evaluation pass would pack the weights anew, for good, and no gradient would come through.
    made.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    made.bias = layer.bias
    weight = layer.weight.detach().to(torch.bfloat16).float()
    made.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", blocksize=BLOCK, module=made)
    made.weight = made.weight.to(weight.device)  # here it is quantised
    return made.train(layer.training)


def dequantise(model: nn.Module) -> None:
    """Put plain linear layers with the same weights, in float32, in the place of those in NF4."""
    for name in list(layers(model)):
        _put(model, name, _plain(model.get_submodule(name)))


def layers(model: nn.Module) -> Mapping[str, nn.Module]:
    """The layers that stand in NF4, by name."""
    return {name: module for name, module in model.named_modules() if is_packed(module)}


def is_packed(layer: nn.Module) -> bool:
    """Whether it is a linear layer that stands in NF4."""
    kind = getattr(getattr(sys.modules.get("bitsandbytes"), "nn", None), "Linear4bit", ())
    return isinstance(layer, kind)


def weight_of(layer: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    """The weight (outputs, inputs) of a layer in NF4, as its products see it."""
    bnb: Any = library()
    held: Any = layer.weight
    told: Tensor = bnb.functional.dequantize_4bit(held.data, held.quant_state)
    return told.to(dtype)


def _plain(layer: Any) -> nn.Linear:
    made = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    made.weight = nn.Parameter(weight_of(layer), requires_grad=False)
    if layer.bias is not None:
        made.bias = nn.Parameter(layer.bias.detach().float(), requires_grad=False)
    return made.train(layer.training)


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(model.get_submodule(parent), own, layer)
