from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tunesmith.artifact import Export
from tunesmith.runtimes._contract import Answer, Found
from tunesmith.text.example import Ask, Prompt
from tunesmith.text.template import Text

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_ROWS = 32  # that are asked at once
MOST_BYTES = 1 << 30  # of keys and values, likewise
LEAST_SHARED = 16  # tokens that the prompts of a batch begin with alike: fewer are not worth a pass of their own


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
        clock = _Clock()
        ids = self._generate([prompt.ids], max_tokens, clock)[0]
        return self._answer(prompt, ids, clock.seconds, clock.first_s)

    def answers(self, asks: Sequence[Ask], max_tokens: int) -> Iterator[tuple[int, Answer]]:
        """The greedy answers, with their places; those of about one length are asked at once."""
        prompts = [self.text.prompt(ask) for ask in asks]
        n_tokens = MOST_BYTES // _bytes_a_token(self.model)
        lengths = [len(prompt.ids) + max_tokens for prompt in prompts]
        for places in _batches(lengths, self._most_at_once, n_tokens):
            clock = _Clock()
            found = self._generate([prompts[place].ids for place in places], max_tokens, clock)
            for place, ids in zip(places, found, strict=True):
                yield place, self._answer(prompts[place], ids, clock.seconds / len(places), None)

    @property
    def _most_at_once(self) -> int:
        """One, where learnt keys and values stand before the prompt: a shorter one has its padding there."""
        from tunesmith.weights import additions

        return 1 if additions.of(self.model) else MOST_ROWS

    def _answer(self, prompt: Prompt, ids: list[int], seconds: float, first_s: float | None) -> Answer:
        stopped = bool(ids) and ids[-1] in self.text.end_ids
        return Answer(self.text.decode(ids), stopped, len(prompt.ids), len(ids), seconds, first_s)

    def greedy(self, prompt: Prompt, max_tokens: int) -> list[int]:
        """The ids of the greedy answer, its end token included where it ended by itself."""
        return self._generate([prompt.ids], max_tokens, _Clock())[0]

    def _generate(self, prompts: Sequence[Sequence[int]], max_tokens: int, clock: _Clock) -> list[list[int]]:
        """The answers to prompts of several lengths; what all begin with is computed once, and padding is behind it."""
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
        longest = max(map(len, prompts))
        n = self._n_shared(prompts, longest + max_tokens)
        ids = torch.tensor([[*one[:n], *[0] * (longest - len(one)), *one[n:]] for one in prompts])  # (B, T)
        mask = torch.tensor([[1] * n + [0] * (longest - len(one)) + [1] * (len(one) - n) for one in prompts])
        with torch.inference_mode():
            clock.start()
            begun = {"past_key_values": self._begun(prompts[0][:n], len(prompts))} if n else {}
            out = self.model.generate(  # type: ignore[operator]
                ids, attention_mask=mask, generation_config=plain, stopping_criteria=[clock.tick], **begun
            )
            clock.stop()
        return [self._to_its_end(row) for row in out[:, longest:].tolist()]

    def _n_shared(self, prompts: Sequence[Sequence[int]], n_tokens: int) -> int:
        """How many tokens the prompts begin with alike and are computed once; one of each is always left.

        `n_tokens` is the most that is read and written of any.
        """
        if len(prompts) == 1 or not _may_begin_together(self.model, n_tokens):
            return 0
        ordered = sorted(list(one) for one in prompts)
        first, last = ordered[0], ordered[-1]  # in the order of words: those between them share what these do
        most = min(map(len, prompts)) - 1
        n = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), most)
        return min(n, most) if min(n, most) >= LEAST_SHARED else 0

    def _begun(self, shared: Sequence[int], n: int) -> Any:
        """The keys and values of a beginning, `n` times."""
        import torch

        cache = self.model(torch.tensor([list(shared)]), use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(n)
        return cache

    def _to_its_end(self, ids: list[int]) -> list[int]:
        """Without the padding that stands where others of the batch went on."""
        ends = (place for place, one in enumerate(ids) if one in self.text.end_ids)
        return ids[: next(ends, len(ids)) + 1]

    def likelihoods(self, texts: Sequence[tuple[Sequence[int], int]]) -> Iterator[tuple[int, list[float]]]:
        """Log-probabilities of the ids of each text behind the first so many, in float32; some tokens never come."""
        n_tokens = MOST_BYTES // _bytes_a_token(self.model)
        for places in _batches([len(ids) for ids, _ in texts], self._most_at_once, n_tokens):
            yield from zip(places, self._likelihoods([texts[place] for place in places]), strict=True)

    def _likelihoods(self, texts: Sequence[tuple[Sequence[int], int]]) -> list[list[float]]:
        import torch

        longest, fewest = max(len(ids) for ids, _ in texts), min(n_given for _, n_given in texts)
        n_kept = longest - fewest + 1  # places of which logits are needed, up to the end
        if len(texts) > 1 and 4 * len(texts) * n_kept * self.model.config.get_text_config().vocab_size > MOST_BYTES:
            half = len(texts) // 2
            return [*self._likelihoods(texts[:half]), *self._likelihoods(texts[half:])]
        n = max(0, min(self._n_shared([ids for ids, _ in texts], longest), fewest - 1))
        padded = torch.tensor([[*ids[n:], *[0] * (longest - len(ids))] for ids, _ in texts])  # (B, T)
        mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in texts])
        with torch.inference_mode():
            begun = {"past_key_values": self._begun(texts[0][0][:n], len(texts))} if n else {}
            logits = self.model(padded, attention_mask=mask, logits_to_keep=n_kept, **begun).logits.float()  # (B, K, V)
            logits[..., sorted(self.text.never)] = -torch.inf
            found = torch.log_softmax(logits, -1)
        behind = longest - n_kept
        return [
            [float(one[place - 1 - behind, ids[place]]) for place in range(n_given, len(ids))]
            for one, (ids, n_given) in zip(found, texts, strict=True)
        ]


class _Clock:
    """How long an answer takes, and its first token."""

    def __init__(self) -> None:
        self.seconds, self.first_s = 0.0, 0.0
        self._began = 0.0

    def start(self) -> None:
        self._began = time.monotonic()

    def tick(self, ids: Any, scores: Any, **_: Any) -> Any:
        """Asked after each token whether it is enough, as a stopping criterion of transformers; it never is."""
        import torch

        self.first_s = self.first_s or time.monotonic() - self._began
        return torch.zeros(ids.shape[0], dtype=torch.bool)

    def stop(self) -> None:
        self.seconds = time.monotonic() - self._began


def _may_begin_together(model: PreTrainedModel, n_tokens: int) -> bool:
    """Whether keys and values are all that such a model keeps, and no window could tell that padding stands between."""
    config: Any = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    return kinds <= {"full_attention", "sliding_attention"} and (not window or window >= n_tokens)


def _bytes_a_token(model: PreTrainedModel) -> int:
    """Of the keys and values that a model in float32 keeps of each token; what its config does not say is the most."""
    config: Any = model.config.get_text_config()
    n_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * 4 * config.num_hidden_layers * n_heads * width)


def _batches(lengths: Sequence[int], most: int, n_tokens: int) -> Iterator[list[int]]:
    """The places of those that are asked at once: the longest first, so that what does not fit shows at once."""
    left = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    while left:
        n = max(1, min(most, n_tokens // lengths[left[0]]))
        yield left[:n]
        left = left[n:]


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
