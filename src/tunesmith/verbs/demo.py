from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from tunesmith import files, say
from tunesmith.recipe import Recipe
from tunesmith.runtimes.torch import open_folder
from tunesmith.sources._find import source_of
from tunesmith.text.example import Ask
from tunesmith.verbs._held_out import held_out_asks
from tunesmith.verbs.run import Ran, run

N_SAMPLES = 3
MAX_TOKENS = 80


@dataclass(frozen=True)
class Sample:
    """An unseen prompt and what was answered before and after tuning."""

    prompt: str
    before: str
    after: str


@dataclass(frozen=True)
class Demo:
    """The whole chain on the built-in data, and what it changed."""

    ran: Ran
    samples: tuple[Sample, ...]

    @property
    def next_commands(self) -> tuple[str, ...]:
        """What a person may type now."""
        folder = self.ran.run.folder
        return (
            f"tunesmith chat {folder} --runtime llama_cpp",
            f"tunesmith serve {folder}",
            f"tunesmith check {folder}",
            "tunesmith new my-model --data my-chats.jsonl",
        )

    def as_json(self) -> dict[str, Any]:
        """The run's JSON, with the samples."""
        samples = [{"prompt": one.prompt, "before": one.before, "after": one.after} for one in self.samples]
        return {**self.ran.as_json(), "samples": samples}


def demo(*, into: Path | None = None, fresh: bool = False) -> Demo:
    """The whole chain on a small real model and built-in data: tune, export, check, before and after.

    Args:
        into: the run's folder; `runs/demo` when left out.
        fresh: begin anew; what stands in the folder is kept beside it.
    """
    into = into or Path("runs/demo")
    with resources.as_file(resources.files("tunesmith").joinpath("orders")) as folder:
        ran = run(_recipe(folder), into=into, fresh=fresh)
        return Demo(ran, tuple(_samples(ran)))


def _recipe(folder: Path) -> Recipe:
    """The shipped recipe, its data found where the package stands."""
    here = [f"data.{part}={folder / f'{part}.jsonl'}" for part in ("train", "test")]
    return Recipe.read(folder / "recipe.yaml", here)


def _samples(ran: Ran) -> Sequence[Sample]:
    """The first held-out prompts, asked before and after; kept with the run, since the answers cannot change."""
    kept = ran.run.folder / "samples.json"
    if kept.is_file() and ran.stages[0].state == "kept":
        return [Sample(**one) for one in json.loads(kept.read_text(encoding="utf-8"))]
    asks = held_out_asks(ran.run, N_SAMPLES)
    base = source_of(ran.run.recipe.base).bring(ran.run.recipe.base)
    with say.progress("before and after", 2 * len(asks), "answers") as bar:
        before, after = _answers(base, asks, bar), _answers(ran.run.model.folder, asks, bar)
    samples = [Sample(_words(ask), old, new) for ask, old, new in zip(asks, before, after, strict=True)]
    files.write_json(kept, [{"prompt": one.prompt, "before": one.before, "after": one.after} for one in samples])
    return samples


def _answers(folder: Path, asks: Sequence[Ask], bar: say.Bar) -> list[str]:
    answers = []
    with open_folder(folder) as opened:
        for ask in asks:
            answers.append(opened.answer(ask, MAX_TOKENS).text)
            bar.advance(1)
    return answers


def _words(ask: Ask) -> str:
    return ask if isinstance(ask, str) else str(ask[-1]["content"])
