"""Others beside whom the tuned model is seen: a server of someone else, or another run. They decide nothing."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tunesmith import files
from tunesmith.endpoint import Endpoint
from tunesmith.errors import DataError, Fault
from tunesmith.runtimes._contract import Answer
from tunesmith.text.example import Ask
from tunesmith.text.template import Text
from tunesmith.verbs._proof_arms import ENDPOINT
from tunesmith.verbs._proof_asker import Speaker
from tunesmith.verbs._proof_prompt import Room
from tunesmith.verbs._proof_rows import Question, n_learnt_by
from tunesmith.verbs._subject import Subject

TIMEOUT_S = 120.0


@dataclass(frozen=True)
class OpenedEndpoint:
    """A server that speaks OpenAI's chat completions, asked as a model is."""

    endpoint: Endpoint

    def answer(self, ask: Ask, max_tokens: int) -> Answer:
        """Its answer at temperature 0, in the seconds that a request took from here."""
        turns = [{"role": "user", "content": ask}] if isinstance(ask, str) else [dict(one) for one in ask]
        told = self.endpoint.reply(turns, max_tokens)
        return Answer(told.text, told.stopped, told.n_prompt_tokens, told.n_answer_tokens, told.seconds)

    def peak_memory_bytes(self) -> None:
        """Not known: it is another machine's."""


def speaker_of(endpoint: Endpoint) -> Speaker:
    """Who answers there."""

    @contextmanager
    def opened() -> Iterator[OpenedEndpoint]:
        yield OpenedEndpoint(endpoint)

    where = urllib.parse.urlsplit(endpoint.address).hostname or ""
    key = files.sha256_of([endpoint.address, endpoint.model])
    return Speaker(f"{endpoint.model} at {where}", ENDPOINT, "", key, 0, opened)


def why_not(other: Subject, questions: Sequence[Question], asks: Sequence[Ask], max_tokens: int) -> str:
    """Why another run cannot be asked these questions, which it is given as these asks; empty where it can."""
    assert other.run is not None
    try:
        n_learnt = n_learnt_by(other.run, questions)
    except DataError as error:
        return f"{error.faults[0].what}: whether it has learnt these rows cannot be known"
    if n_learnt:
        return f"it has learnt {n_learnt} of the {len(questions)} rows"
    room = Room(Text.read(other.model.folder), other.facts.context - max_tokens, max_tokens)
    try:
        n_long = sum(not room.fits(one) for one in asks)
    except Exception as error:  # noqa: BLE001  # a template is a program of someone else
        return f"its chat template refuses a row: {(str(error).strip().splitlines() or [type(error).__name__])[0]}"
    return f"{n_long} of the {len(questions)} rows do not fit into its context" if n_long else ""


def refusals(address: str | None, model: str | None, key_from: str) -> list[Fault]:
    """What is wrong with a server that is named."""
    if address is None:
        fix = "name its address too, up to /v1: --endpoint http://127.0.0.1:11434/v1"
        wrong = bool(model or key_from)
        return [Fault("prove/no-endpoint", "a model of a server is named, and no server", fix=fix)] if wrong else []
    fix = "name the model that is asked there: --endpoint-model NAME"
    unnamed = [] if model else [Fault("prove/no-endpoint-model", "the server has no model named", fix=fix)]
    return [*unnamed, *endpoint_of(address, model or "", key_from).refuse()]


def endpoint_of(address: str, model: str, key_from: str) -> Endpoint:
    """The server, as it is asked."""
    return Endpoint(address, model, key_from, TIMEOUT_S)
