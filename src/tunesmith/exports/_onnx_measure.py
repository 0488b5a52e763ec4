"""How far a file's probabilities are from those of the model it was made from, on a few neutral prompts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ExportError, Fault
from tunesmith.text.example import Ask
from tunesmith.text.template import Text

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedModel

# Half of them show the quantiser which columns matter, the other half measure what it did.
QUESTIONS = (
    "Why is the sky blue?",
    "Write two sentences about a small boat at sea.",
    "List three uses of salt.",
    "Translate to French: Good morning, my friend.",
    "What is 17 plus 25?",
    'Give this as JSON with the keys name and age: "Mara is 34 years old."',
    "How does a bicycle stay upright?",
    "Write a Python function that reverses a string.",
    "Name a river in Egypt and say where it ends.",
    "Explain to a child what rain is.",
    "Which is heavier, a kilogram of iron or a kilogram of feathers?",
    "Rewrite politely: Give me the book now.",
)
BEGINNINGS = (
    "The old house at the end of the lane had",
    "In mathematics, a prime number is",
    "Once upon a time there was",
    "To make a good soup, first",
    "The train left the station at",
    "def mean(values):",
    "The results of the vote were",
    "She opened the letter and",
    "Water boils when",
    "On the first day of spring",
    "The capital of Japan is",
    "There are three reasons for",
)
ANSWER_TOKENS = 24


@dataclass(frozen=True)
class Sample:
    """A prompt with the model's own greedy answer: `ids` (T,), of which the last `n_answer` are the answer."""

    ids: tuple[int, ...]
    n_answer: int


@dataclass(frozen=True)
class Probe:
    """What the model itself says: `reference` holds its log-probabilities (n_answer, V) for each sample.

    Tokens that are never written (`never`) have no place among the V.
    """

    samples: Sequence[Sample]
    reference: Sequence[np.ndarray[Any, Any]]
    importance: Mapping[str, torch.Tensor]
    never: Sequence[int] = ()

    def measure(self, session: Any) -> dict[str, float]:
        """Mean KL in nats, infinite where it is none, and the share of places whose likeliest token is the model's."""
        import numpy as np

        divergence, agree = [], []
        for sample, wanted in zip(self.samples, self.reference, strict=True):
            logits = run(session, sample.ids, keep=sample.n_answer + 1)["logits"][0, :-1]
            seen = log_softmax(np.delete(logits, self.never, axis=-1))
            divergence.append((np.exp(wanted) * (wanted - seen)).sum(-1))
            agree.append(wanted.argmax(-1) == seen.argmax(-1))
        kl = float(np.concatenate(divergence).mean())
        return {"kl": kl if math.isfinite(kl) else math.inf, "agreement": float(np.concatenate(agree).mean())}


def finite(kl: float, dtype: str) -> None:
    """Nothing, where a file answers with numbers at all.

    Raises:
        ExportError: `export/web-no-numbers`, when its logits are none, as where sums do not fit in float16.
    """
    if not math.isfinite(kl):
        what = f"computed in {dtype}, this model's logits are no numbers any more"
        fix = "set export.web.dtypes to [q4, q8], which compute in float32"
        raise ExportError(Fault("export/web-no-numbers", what, fix=fix))


def probe(model: PreTrainedModel, text: Text, raw_text: bool) -> Probe:
    """The model's own answers to built-in prompts, its probabilities there, and how much it uses each column."""
    samples, never = _samples(model, text, raw_text), sorted(text.never)
    importance = _importance(model, samples[::2])
    return Probe(samples[1::2], [_logprobs(model, one, never) for one in samples[1::2]], importance, never)


def _samples(model: PreTrainedModel, text: Text, raw_text: bool) -> list[Sample]:
    import torch
    from transformers import GenerationConfig

    chat = text.has_template and not raw_text
    asks: list[Ask] = [[{"role": "user", "content": one}] for one in QUESTIONS] if chat else list(BEGINNINGS)
    prompts = [text.prompt(ask).ids for ask in asks]
    width = max(map(len, prompts))
    ids = torch.tensor([(0,) * (width - len(one)) + one for one in prompts])
    mask = torch.tensor([(0,) * (width - len(one)) + (1,) * len(one) for one in prompts])
    plain = GenerationConfig(
        max_new_tokens=ANSWER_TOKENS,
        do_sample=False,
        eos_token_id=sorted(text.end_ids) or None,
        pad_token_id=0,
        suppress_tokens=sorted(text.never) or None,
    )
    with torch.inference_mode():
        out = model.generate(ids, attention_mask=mask, generation_config=plain)  # type: ignore[operator]
    answers = [_until_end(row, text.end_ids) for row in out[:, width:].tolist()]
    return [Sample((*prompt, *answer), len(answer)) for prompt, answer in zip(prompts, answers, strict=True)]


def _until_end(ids: list[int], end_ids: frozenset[int]) -> list[int]:
    for place, one in enumerate(ids):
        if one in end_ids:
            return ids[: place + 1]
    return ids


def _logprobs(model: PreTrainedModel, sample: Sample, never: Sequence[int]) -> np.ndarray[Any, Any]:
    import numpy as np
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([sample.ids]), logits_to_keep=sample.n_answer + 1).logits[0, :-1]
    return log_softmax(np.delete(logits.float().numpy(), never, axis=-1))


def _importance(model: PreTrainedModel, samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
    """The mean square of what each linear layer is given (K,), by the name of its weight."""
    import torch

    sums: dict[str, torch.Tensor] = {}

    def listen(name: str) -> Any:
        def hook(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            square = inputs[0].detach().float().pow(2).flatten(0, -2).mean(0)
            sums[name] = sums.get(name, torch.zeros_like(square)) + square

        return hook

    linears = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)]
    hooks = [layer.register_forward_pre_hook(listen(f"{name}.weight")) for name, layer in linears]
    with torch.inference_mode():
        for sample in samples:
            model(torch.tensor([sample.ids]))
    for one in hooks:
        one.remove()
    return sums


def session(path: Path) -> Any:
    """An ONNX Runtime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session: Any, ids: Sequence[int], past: Mapping[str, Any] | None = None, keep: int = 1) -> dict[str, Any]:
    """Logits (1, keep, V) and the cache after some new tokens; `past` is what an earlier call gave."""
    import numpy as np

    feeds = {name: one for name, one in (past or empty_cache(session)).items()}
    before = next(iter(feeds.values())).shape[2]
    feeds["input_ids"] = np.array([ids], dtype=np.int64)
    feeds["attention_mask"] = np.ones((1, before + len(ids)), dtype=np.int64)
    feeds["position_ids"] = np.arange(before, before + len(ids), dtype=np.int64)[None]
    feeds["num_logits_to_keep"] = np.array(keep, dtype=np.int64)
    wanted = {one.name for one in session.get_inputs()}
    names = [one.name for one in session.get_outputs()]
    out = session.run(None, {name: value for name, value in feeds.items() if name in wanted})
    return {name.replace("present.", "past_key_values."): value for name, value in zip(names, out, strict=True)}


def empty_cache(session: Any) -> dict[str, Any]:
    """Keys and values of no token."""
    import numpy as np

    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    return {
        one.name: np.zeros((1, one.shape[1], 0, one.shape[3]), dtype=kinds[one.type])
        for one in session.get_inputs()
        if one.name.startswith("past_key_values.")
    }


def log_softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Natural log-probabilities along the last axis, in float64."""
    import numpy as np

    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    out: np.ndarray[Any, Any] = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return out
