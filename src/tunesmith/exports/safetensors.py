from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from tunesmith import files, say
from tunesmith.artifact import Export, Model, Precision, Variant
from tunesmith.errors import ExportError, Fault
from tunesmith.exports import _plain
from tunesmith.machine import Machine
from tunesmith.recipe import Part
from tunesmith.text.template import Text
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Dtype = Literal["float32", "bfloat16", "float16"]
BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
NOT_OURS = ("manifest.json", "README.md")


class Safetensors(Part):
    """A folder that Transformers, vLLM, text-generation servers and the Hub take as it is."""

    kind: ClassVar[str] = "safetensors"
    needs: ClassVar[tuple[str, ...]] = ()
    runtimes: ClassVar[tuple[str, ...]] = ("torch",)

    dtype: Literal["as_saved"] | Dtype = "as_saved"
    """Type of the weights: as the run saved them, or cast once to float32, bfloat16 or float16."""

    def refuse(self, facts: BaseFacts, machine: Machine) -> list[Fault]:
        """A model that is more than plain weights."""
        return _plain.faults(facts)

    def disk_bytes(self, facts: BaseFacts) -> int:
        """The weights and the tokenizer; less where the disk allows links."""
        return facts.n_parameters * BYTES.get(self.dtype, 4) + 256 * facts.vocab_size + (1 << 20)

    def write(self, model: Model, made: Mapping[str, Export], into: Path) -> Export:
        """The folder, with a README that says how to load it.

        Raises:
            ExportError: `export/beyond-float16`, when a weight is larger than float16 can hold.
        """
        from tunesmith.weights.save import copy_words

        for file in sorted(model.folder.iterdir()):
            if file.is_file() and file.name not in NOT_OURS and not file.name.startswith("."):
                _link(file, into / file.name)
        copy_words(model.folder, into)
        if self.dtype != "as_saved":
            _cast(into, self.dtype)
        precision = _precision(into)
        text = Text.read(into)
        chat = text.has_template and not model.raw_text
        files.write_text(into / "README.md", _readme(chat, text.lead, precision))
        note = "weights as they were saved" if self.dtype == "as_saved" else f"weights cast once to {self.dtype}"
        variant = Variant(precision, into, files.size_bytes(into), precision, "exact", {"note": note})
        return Export(self.kind, into, {precision: variant}, {"raw_text": model.raw_text})


def _link(file: Path, to: Path) -> None:
    """A second name for weights where the disk allows it, else a copy; small files may be edited: copied."""
    if file.suffix == ".safetensors":
        try:
            os.link(file.resolve(), to)
        except OSError:  # another disk, or one without links
            pass
        else:
            return
    shutil.copyfile(file, to)


def _cast(folder: Path, dtype: Dtype) -> None:
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    shards = sorted(folder.glob("*.safetensors"))
    with say.progress(f"cast to {dtype}", len(shards), "files") as bar:
        for file in shards:
            with safe_open(file, framework="pt") as opened:
                about = opened.metadata()
                weights = {name: _as(opened.get_tensor(name), getattr(torch, dtype), name) for name in opened.keys()}  # noqa: SIM118
            beside = file.with_name(f"{files.PART}{file.name}")
            save_file(weights, beside, about)
            beside.replace(file)  # the run's own file keeps its content: only the name is taken over
            bar.advance(1)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("torch_dtype", None)
    files.write_json(folder / "config.json", {**config, "dtype": dtype})


def _as(weight: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    import torch

    if not weight.is_floating_point():
        return weight
    cast = weight.to(dtype)
    if torch.isinf(cast).any() and not torch.isinf(weight).any():
        raise ExportError(
            Fault(
                "export/beyond-float16",
                f"{name} holds {float(weight.abs().max()):g}, and float16 ends at 65504",
                fix="set dtype: bfloat16",
            )
        )
    return cast


def _precision(folder: Path) -> Precision:
    from safetensors import safe_open

    names: Mapping[str, Precision] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    file = sorted(folder.glob("*.safetensors"))[0]
    with safe_open(file, framework="pt") as opened:
        seen = {str(opened.get_slice(name).get_dtype()) for name in opened.keys()}  # noqa: SIM118
    return next((names[one] for one in ("F32", "BF16", "F16") if one in seen), "float32")


def _readme(chat: bool, lead: str, precision: str) -> str:
    """`lead` has to stand before a raw text: the tokens of a soft prompt, which a chat template writes itself."""
    raw = f'tokenizer({lead + "Once"!r}, add_special_tokens=False, return_tensors="pt")'
    ask = (
        'ids = tokenizer.apply_chat_template([{"role": "user", "content": "hello"}], add_generation_prompt=True, '
        'return_tensors="pt", return_dict=True)'
        if chat
        else f"ids = {raw}"
        if lead
        else 'ids = tokenizer("Once", return_tensors="pt")'
    )
    kind = "answers a chat" if chat else "goes on with a text"
    return f"""# A tuned model

It {kind}. Weights: {precision}, safetensors. Made with tunesmith.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
{ask}
print(tokenizer.decode(model.generate(**ids, max_new_tokens=100)[0], skip_special_tokens=True))
```
"""
