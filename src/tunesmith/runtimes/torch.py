from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tunesmith.artifact import Export
from tunesmith.runtimes._contract import Answer, Found
from tunesmith.text.example import Ask, Prompt
from tunesmith.text.template import Text

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class TorchOpened:
    """A model in PyTorch, in float32: the reference that every other runtime is held against."""

    model: PreTrainedModel
    text: Text
    raw_text: bool = False
    """It goes on with a text: then the tokenizer adds what it adds to every text."""

    def render(self, ask: Ask) -> str:
        """The prompt as the tokenizer's own template renders it."""
        return self.text.prompt(ask).text

    def tokens(self, text: str) -> Sequence[int]:
        """The ids of a rendered prompt."""
        return self.text.ids(text, self.raw_text)

    def logprobs(self, prompt: Prompt, top: int) -> Mapping[int, float]:
        """Log-probabilities of the `top` likeliest next tokens, computed in float32; some tokens never come."""
        import torch

        with torch.inference_mode():
            logits = self.model(torch.tensor([prompt.ids]), logits_to_keep=1).logits[0, -1].float()  # (V,)
            logits[sorted(self.text.never)] = -torch.inf
            best = torch.log_softmax(logits, -1).topk(min(top, logits.shape[-1]))
        return dict(zip(best.indices.tolist(), best.values.tolist(), strict=True))

    def answer(self, ask: Ask, max_tokens: int) -> Answer:
        """The greedy answer."""
        prompt = self.text.prompt(ask)
        began = time.monotonic()
        ids = self.greedy(prompt, max_tokens)
        seconds = time.monotonic() - began
        stopped = bool(ids) and ids[-1] in self.text.end_ids
        return Answer(self.text.decode(ids), stopped, len(prompt.ids), len(ids), seconds)

    def greedy(self, prompt: Prompt, max_tokens: int) -> list[int]:
        """The ids of the greedy answer, its end token included where it ended by itself."""
        import torch
        from transformers import GenerationConfig

        # Built from nothing: what the base model's own generation_config samples with must not reach a greedy answer.
        plain = GenerationConfig(
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=sorted(self.text.end_ids) or None,
            pad_token_id=0,
            suppress_tokens=sorted(self.text.never) or None,
        )
        ids = torch.tensor([prompt.ids])
        with torch.inference_mode():
            out = self.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=plain)  # type: ignore[operator]
        return [int(one) for one in out[0, ids.shape[1] :]]


class Torch:
    """PyTorch with transformers: where the model was tuned."""

    kind: ClassVar[str] = "torch"
    takes_ids: ClassVar[bool] = True

    def present(self) -> Found:
        """Always here: tuning needs it."""
        from importlib.metadata import version

        return Found(True, f"torch {version('torch')}, transformers {version('transformers')}")

    @contextmanager
    def open(self, export: Export, variant: str, text: Text) -> Iterator[TorchOpened]:
        """A folder of safetensors; `text` is not used: the words that were exported are those to be checked."""
        folder = export.variants[variant].path
        own = Text.read(folder)
        raw_text = bool(export.about.get("raw_text")) or not own.has_template
        with open_folder(folder, own) as opened:
            yield replace(opened, raw_text=raw_text)


@contextmanager
def open_folder(folder: Path, text: Text | None = None) -> Iterator[TorchOpened]:
    """A model folder, in float32; its own tokenizer unless another is given."""
    from tunesmith.weights.load import load

    yield TorchOpened(load(folder), text or Text.read(folder))
