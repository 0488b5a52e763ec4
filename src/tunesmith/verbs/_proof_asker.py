"""A model that is asked, and remembers: each answer is a line in the run's folder, so that a second proof asks nothing.

A model is loaded when something is asked of it that nobody asked before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Self

from tunesmith import files, say
from tunesmith.errors import TunesmithError
from tunesmith.machine import forget_peak_memory, peak_memory_bytes
from tunesmith.runtimes._contract import Answer, Elsewhere, Opened, Scorer, Together
from tunesmith.text.example import Ask

N_WARM = 3
N_ALONE = 12  # rows that are asked one by one, for their milliseconds, where the others are asked together


@dataclass(frozen=True)
class Speaker:
    """Who answers: a model in a runtime."""

    name: str
    runtime: str
    variant: str
    key: str
    """Hash of all that decides its answers beside what it is asked."""
    n_bytes: int
    open: Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Said:
    """An answer, and whether it was asked alone, so that its seconds are those of a request."""

    answer: Answer
    alone: bool


class Asker:
    """A speaker who is asked at most once for each thing."""

    def __init__(self, speaker: Speaker, folder: Path) -> None:
        self.speaker = speaker
        self._kept = _Kept(folder / f"{speaker.runtime}-{speaker.key[:16]}.jsonl")
        self._stack = ExitStack()
        self._opened: Opened | None = None
        self._loading_bytes = 0  # at most, while it was loaded into this process
        self.peak_memory_bytes: int | None = None
        """The most memory that the process which computes held to load it and to give the last answers.

        In this process that is what one request takes: those that are asked together take more. None where not known.
        """

    @property
    def n_new(self) -> int:
        """How much was asked that nobody had asked before."""
        return self._kept.n_added

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kept.close()
        self._stack.close()

    def answers(self, asks: Sequence[Ask], max_tokens: int, label: str, *, n_alone: int = N_ALONE) -> list[Said]:
        """The greedy answers, in the order of the asks; the first `n_alone` are asked one by one.

        Raises:
            CannotTell: the runtime is not here.
            RuntimeFault: it failed.
        """
        keys = [files.sha256_of(["answer", ask, max_tokens]) for ask in asks]
        memory = files.sha256_of(["memory", keys[:N_ALONE]])  # the first stay the first when more are asked
        missing: dict[str, int] = {}  # where each stands first
        for place, key in enumerate(keys):
            if self._kept.get(key) is None:
                missing.setdefault(key, place)
        if missing:
            with say.progress(label, len(missing), "answers") as bar:
                for place, said in self._ask(asks, sorted(missing.values()), max_tokens, n_alone, memory):
                    self._kept.add(keys[place], {**asdict(said.answer), "alone": said.alone})
                    bar.advance(1)
        self.peak_memory_bytes = (self._kept.get(memory) or {}).get("bytes")
        # A question that comes again was asked once, and its time counts once.
        again = [key in keys[:place] for place, key in enumerate(keys)]
        told = zip(keys, again, strict=True)
        return [
            Said(one.answer, one.alone and not is_again) for key, is_again in told if (one := self._remembered(key))
        ]

    def likelihoods(self, texts: Sequence[tuple[Sequence[int], int]], label: str) -> list[list[float]]:
        """Log-probabilities of the ids behind the given ones, for each (ids, how many are given).

        Empty lists where the runtime cannot tell.
        """
        keys = [files.sha256_of(["likelihoods", list(ids), n_given]) for ids, n_given in texts]
        missing = {key: place for place, key in enumerate(keys) if self._kept.get(key) is None}
        opened = self._open() if missing else None
        if missing and not isinstance(opened, Scorer):
            return [[] for _ in texts]
        with say.progress(label, len(missing), "texts") as bar:
            places = list(missing.values())
            for at, told in (
                opened.likelihoods([texts[place] for place in places]) if isinstance(opened, Scorer) else ()
            ):
                self._kept.add(keys[places[at]], {"logprobs": [round(one, 6) for one in told]})
                bar.advance(1)
        return [list(kept["logprobs"]) for key in keys if (kept := self._kept.get(key)) is not None]

    def _weigh(self, key: str, *, counted_anew: bool) -> None:
        """Keep the peak of memory with the answers."""
        if isinstance(self._opened, Elsewhere):
            try:
                peak = self._opened.peak_memory_bytes()
            except TunesmithError:  # a server may have let the model go
                peak = None
        else:
            peak = peak_memory_bytes() if counted_anew else None
        if peak is not None:
            before = (self._kept.get(key) or {}).get("bytes", 0)
            self._kept.add(key, {"bytes": max(peak, self._loading_bytes, before)})

    def _remembered(self, key: str) -> Said | None:
        told = self._kept.get(key)
        if told is None:
            return None
        return Said(Answer(**{name: value for name, value in told.items() if name != "alone"}), bool(told["alone"]))

    def _ask(
        self, asks: Sequence[Ask], places: Sequence[int], max_tokens: int, n_alone: int, memory: str
    ) -> Iterator[tuple[int, Said]]:
        opened = self._open()
        together = opened if isinstance(opened, Together) else None
        alone = [place for place in places if together is None or place < n_alone]
        counted_anew = bool(alone) and forget_peak_memory()
        for place in alone[:N_WARM]:
            opened.answer(asks[place], max_tokens)  # the first requests take longer than those after them
        for place in alone:
            yield place, Said(opened.answer(asks[place], max_tokens), True)
        if alone:
            self._weigh(memory, counted_anew=counted_anew)
        rest = places[len(alone) :]
        if together is not None and rest:
            for at, answer in together.answers([asks[place] for place in rest], max_tokens):
                yield rest[at], Said(answer, False)

    def _open(self) -> Any:
        if self._opened is None:
            with say.progress(f"load {self.speaker.name}", 1, "model") as bar:
                counted_anew = forget_peak_memory()
                self._opened = self._stack.enter_context(self.speaker.open())
                if counted_anew and not isinstance(self._opened, Elsewhere):
                    self._loading_bytes = peak_memory_bytes() or 0
                bar.advance(1)
        return self._opened


class _Kept:
    """Lines of JSON by key; a last line that a kill cut short is left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[str] | None = None
        self.n_added = 0
        self._lines: dict[str, Mapping[str, Any]] = {}
        for line in _lines(path):
            try:
                told = json.loads(line)
                self._lines[told["key"]] = told["told"]
            except (ValueError, KeyError, TypeError):
                continue

    def get(self, key: str) -> Mapping[str, Any] | None:
        return self._lines.get(key)

    def add(self, key: str, told: Mapping[str, Any]) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("a", encoding="utf-8")
            self._file.write("\n")  # ends a line that was cut short
        self._lines[key] = told
        self.n_added += 1
        self._file.write(json.dumps({"key": key, "told": told}, ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return []
