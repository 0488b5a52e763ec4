from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from tunesmith.errors import Fault
from tunesmith.machine import Machine
from tunesmith.methods._contract import Delivery
from tunesmith.methods._peft_lora import PeftLora
from tunesmith.weights.estimate import Footprint
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


class Qlora(PeftLora):
    """LoRA over a base whose linear layers stand in four bits: NF4, about half a byte a weight.

    It begins as the base that the four bits tell. At the end they are float32 again, and the product is added to them.
    """

    kind: ClassVar[str] = "qlora"
    learning_rate: ClassVar[float] = 4e-4

    def refuse(self, base: BaseFacts, machine: Machine) -> list[Fault]:
        """What LoRA refuses, and a machine without bitsandbytes."""
        from tunesmith.weights import nf4

        faults = super().refuse(base, machine)
        if not nf4.is_here():
            fix = "pip install 'tunesmith[qlora]'"
            what = "the package bitsandbytes, which holds weights in four bits, is not installed"
            faults.append(Fault("method/no-bitsandbytes", what, fix=fix, key="method.kind"))
        return faults

    def _quantised(self, base: BaseFacts) -> list[str]:
        """The layers that stand in four bits: every linear one but the output head."""
        return [name for name in base.linear_shapes if name != base.ends[1]]

    def footprint(self, base: BaseFacts) -> Footprint:
        """What LoRA takes, and the bytes of the four bits for the weights that stand in them."""
        from tunesmith.weights import nf4

        lora, shapes = super().footprint(base), base.linear_shapes
        sizes = [shapes[name][0] * shapes[name][1] for name in self._quantised(base)]
        return replace(lora, n_packed=sum(sizes), other_bytes=lora.other_bytes + nf4.n_bytes(sizes))

    def wrap(self, model: PreTrainedModel, base: BaseFacts) -> nn.Module:
        """The model with its linear layers in four bits and PEFT's layers put in, the updates in float32."""
        from tunesmith.weights import nf4

        nf4.quantise(model, self._quantised(base))
        return self._put_on(model, base)

    def settle(self, model: nn.Module) -> PreTrainedModel:
        """The four bits as float32, and the updates added to those; a model that has none is at rest already."""
        from tunesmith.weights import nf4

        nf4.dequantise(model)  # PEFT's own merge would quantise the sum again
        return self._merged(model)

    def delivers(self, base: BaseFacts | None) -> Mapping[str, Delivery]:
        """Everywhere: dequantised and merged, it is a plain model. Some have no head of its own in llama.cpp."""
        how = "dequantised, then merged in float32, cast once"
        return self._delivered(base, how, f"{how}; the adapter alone, for the base in NF4, stands in adapter/")
