"""What the methods share that put a soft prompt before everything: where it starts, how it is kept, where it rests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveInt

from tunesmith.errors import Fault
from tunesmith.machine import Machine
from tunesmith.methods._contract import Delivery
from tunesmith.methods._tuning import Tuning
from tunesmith.weights.estimate import Footprint
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

WEIGHTS = "weights.safetensors"
PEFT_WEIGHTS = "adapter_model.safetensors"
START = "Read what follows and answer it in the way that these examples have taught you, in the same form and words."


class SoftPrompt(Tuning):
    """Rows before all tokens. While they learn they have ids of their own, which stand before every row of the data."""

    length: PositiveInt = 20
    """Tokens: rows of the soft prompt. Each is read with every request, as a token of a written prompt is."""
    init: Literal["text", "vocabulary", "random"] = "text"
    """Where learning starts: from the tokens of `text`, from tokens drawn from the vocabulary, or from random rows."""
    text: str = Field(default=START, min_length=1)
    """Text that learning starts from, cut or repeated to `length` tokens; best is what you would write as a prompt."""

    def refuse(self, base: BaseFacts, machine: Machine) -> list[Fault]:
        """Tokenizers that cannot take new tokens, or have them already; layers that read more than one embedding."""
        faults = []
        if base.next_token is None:
            what = "the soft prompt becomes new tokens, and the base has no tokenizer.json that could take them"
            fix = "save the tokenizer with AutoTokenizer in Python, which writes one, or set method: lora"
            faults.append(Fault("method/no-tokenizer-json", what, fix=fix, file=base.name))
        elif _has_virtual_tokens(base):
            what = "the base was tuned with a soft prompt already, and a second one would take its place"
            fix = "set base to the model that it was tuned from, or set method: lora"
            faults.append(Fault("method/has-soft-prompt", what, fix=fix, file=base.name))
        if base.text_config.get("hidden_size_per_layer_input"):
            what = f"{base.model_type} reads an embedding in each layer, and a soft prompt has rows for the first alone"
            faults.append(Fault("method/embeddings-in-layers", what, fix="set method: lora", file=base.name))
        return faults

    def footprint(self, base: BaseFacts) -> Footprint:
        """A row for each token beyond those that the embedding has to spare; of a head of its own as well."""
        more = max(0, self.lead(base)[-1] + 1 - base.vocab_size)
        return Footprint(n_added=more * base.hidden_size * (1 if base.tied else 2))

    def lead(self, base: BaseFacts) -> tuple[int, ...]:
        """The next free ids of the tokenizer."""
        first = base.next_token or 0
        return tuple(range(first, first + self.length))

    def rows(self, start: Tensor, spread: float) -> nn.Module:
        """What gives the rows (P, D); its parameters are what learns. `spread` is how large the base's own rows are."""
        raise NotImplementedError

    def wrap(self, model: PreTrainedModel, base: BaseFacts) -> nn.Module:
        """The model with the rows behind its embedding; all else stays as it is."""
        from tunesmith.methods._layers_soft import LedEmbedding
        from tunesmith.weights.soft_rows import spread_of

        model.requires_grad_(False)
        embedding: Any = model.get_input_embeddings()
        rows = self.rows(self._start(embedding, base), spread_of(embedding))
        led = LedEmbedding(embedding, self.lead(base)[0], rows)
        model.set_input_embeddings(led)
        return model

    def _start(self, embedding: nn.Embedding, base: BaseFacts) -> Tensor:
        """The rows that learning starts from (P, D), as the layers would read them."""
        import torch

        from tunesmith.weights.soft_rows import spread_of

        known = embedding.weight.shape[0] if base.next_token is None else min(base.next_token, len(embedding.weight))
        if self.init == "random":
            return torch.randn(self.length, embedding.weight.shape[1]) * spread_of(embedding)
        ids = torch.randint(known, (self.length,)) if self.init == "vocabulary" else torch.tensor(self._ids(base))
        with torch.no_grad():
            return embedding(ids).float()  # type: ignore[no-any-return]

    def _ids(self, base: BaseFacts) -> list[int]:
        """The tokens of the text, as many as there are rows."""
        from tunesmith.text.template import Text

        ids = Text.read(base.folder).encode(self.text)
        return (ids * -(-self.length // len(ids)))[: self.length]

    def save(self, model: nn.Module, into: Path) -> None:
        """What learns; and the rows that it gives as PEFT's prompt tuning saves them."""
        from tunesmith.weights import nf4

        nf4.tame()
        from peft import PromptTuningConfig, TaskType
        from safetensors.torch import save_file

        led = led_of(model)
        into.mkdir(parents=True, exist_ok=True)
        save_file({name: weight.contiguous().cpu() for name, weight in led.rows.state_dict().items()}, into / WEIGHTS)
        save_file({"prompt_embeddings": led.rows().detach().contiguous().cpu()}, into / PEFT_WEIGHTS)
        config = PromptTuningConfig(
            task_type=TaskType.CAUSAL_LM,
            num_virtual_tokens=self.length,
            base_model_name_or_path=getattr(model, "name_or_path", None),
            revision=getattr(model, "revision", None),
            inference_mode=True,
        )
        config.save_pretrained(str(into))

    def load(self, model: nn.Module, folder: Path) -> None:
        """Put back what learns, all of it."""
        from safetensors.torch import load_file

        led_of(model).rows.load_state_dict(load_file(folder / WEIGHTS))

    def settle(self, model: nn.Module) -> PreTrainedModel:
        """The rows in the embedding, under the ids that they were learnt with."""
        from tunesmith.methods._layers_soft import LedEmbedding
        from tunesmith.weights import soft_rows

        plain: Any = model
        led = plain.get_input_embeddings()
        if not isinstance(led, LedEmbedding):
            return plain  # type: ignore[no-any-return]
        plain.set_input_embeddings(led.base)
        soft_rows.put(plain, led.rows().detach(), led.first)
        return plain  # type: ignore[no-any-return]

    def delivers(self, base: BaseFacts | None) -> Mapping[str, Delivery]:
        """Everywhere: its rows become tokens of the vocabulary."""
        how = "new tokens that the chat template puts first and that are never written"
        exact = Delivery("exact", how)
        ollama = Delivery("exact", f"{how}; Ollama 0.32.14 or newer")
        return {"safetensors": exact, "gguf": exact, "ollama": ollama, "web": exact}


def _has_virtual_tokens(base: BaseFacts) -> bool:
    from tunesmith.text.virtual import names

    return names(1)[0] in (base.folder / "tokenizer.json").read_text(encoding="utf-8")


def led_of(model: nn.Module) -> Any:
    """The embedding with its further rows, in a wrapped model."""
    from tunesmith.methods._layers_soft import LedEmbedding

    return next(one for one in model.modules() if isinstance(one, LedEmbedding))
