"""What a file is measured on: neutral prompts with the model's own answers, and answers of rows it was tuned for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.errors import DataError
from tunesmith.text.example import Ask, Example
from tunesmith.text.mask import weigh_turns
from tunesmith.text.template import Text

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
ANSWER_TOKENS = 16  # of the model's own answer to a neutral prompt
ROW_TOKENS = 2_000  # of all rows together: each is computed in each way of rounding that is tried
ROW_ANSWER_TOKENS = 64  # of the answer of a row: what it begins with


@dataclass(frozen=True)
class Sample:
    """A prompt with an answer: `ids` (T,), of which the last `n_answer` are the answer."""

    ids: tuple[int, ...]
    n_answer: int


def neutral(model: PreTrainedModel, text: Text, raw_text: bool, every: int = 1) -> list[Sample]:
    """Built-in prompts, all of them or one of `every` so many, each with the model's own greedy answer."""
    import torch
    from transformers import GenerationConfig

    chat = text.has_template and not raw_text
    asks: list[Ask] = [[{"role": "user", "content": one}] for one in QUESTIONS] if chat else list(BEGINNINGS)
    prompts = [text.prompt(ask).ids for ask in asks[::every]]
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


def of_rows(text: Text, rows: Sequence[Example]) -> list[Sample]:
    """The last answer of each row as it stands there, its first tokens, as long as all rows together are short enough.

    Raw text has no answers, and gives none; neither does a row that this model's template cannot write.
    """
    samples: list[Sample] = []
    room = ROW_TOKENS
    for sample in _last_answers(text, rows):
        if len(sample.ids) <= room:
            room -= len(sample.ids)
            samples.append(sample)
    return samples


def _last_answers(text: Text, rows: Sequence[Example]) -> Iterator[Sample]:
    for row in rows if text.has_template else ():
        try:
            last = weigh_turns(row, text)[-1:]
        except DataError:
            continue
        for tokens in last:
            n_before = max(at for at, weight in enumerate((0.0, *tokens.weights)) if not weight)
            ids = tokens.ids[: n_before + ROW_ANSWER_TOKENS]
            yield Sample(ids, len(ids) - n_before)
