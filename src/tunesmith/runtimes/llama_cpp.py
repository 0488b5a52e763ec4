from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
import secrets
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any, ClassVar

from tunesmith.artifact import Export
from tunesmith.errors import CannotTell, Fault, RuntimeFault
from tunesmith.machine import count_cores, peak_memory_bytes
from tunesmith.runtimes._contract import Answer, Found
from tunesmith.text.example import Ask, Prompt
from tunesmith.text.template import Text

GET = "pip install 'tunesmith[gguf]'"
N_CONTEXT = 4096
MOST_LOST = 0.5  # of the probability: where suppressed tokens have more, it is asked for anew without them
MOST_UNLISTED = 1e-6  # likewise where some of them that are not listed may have more
LIFTS = (60, 120)  # nats: over any other token, and no other is lost in float32 beside it
GREEDY: Mapping[str, Any] = {
    "temperature": 0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
    "cache_prompt": False,
    "post_sampling_probs": False,
}
AS_THEY_ARE: Mapping[str, Any] = {
    "temperature": 1.0,
    "samplers": ["temperature"],
    "post_sampling_probs": True,
    "seed": 1,
}


@dataclass(frozen=True)
class LlamaCpp:
    """llama.cpp, from the `xllamacpp` wheel, in a process of its own: an abort inside it does not end ours."""

    kind: ClassVar[str] = "llama_cpp"
    takes_ids: ClassVar[bool] = True

    n_context: int = N_CONTEXT
    """Tokens of prompt and answer together; more takes more memory."""

    def present(self) -> Found:
        """Whether the wheel is installed; nothing of it is loaded."""
        spec = importlib.util.find_spec("xllamacpp")
        if spec is None:
            return Found(False, get=GET)
        return Found(True, importlib.metadata.version("xllamacpp"), where=str(spec.origin))

    @contextmanager
    def open(self, export: Export, variant: str, text: Text) -> Iterator[OpenedLlamaCpp]:
        """Load one GGUF of an export.

        Raises:
            CannotTell: the wheel is not installed.
            RuntimeFault: `runtime/cannot-load`, when llama.cpp refuses the file; holds its own words.
        """
        found = self.present()
        if not found.here:
            raise CannotTell(f"xllamacpp is not installed; get it with: {found.get}")
        with serving(export.variants[variant].path, self.n_context) as server:
            yield OpenedLlamaCpp(server, text)


@dataclass(frozen=True)
class Server:
    """llama.cpp's own HTTP server, on this machine alone."""

    address: str
    key: str
    model: Path
    log: IO[bytes]
    pid: int

    def ask(self, path: str, body: Mapping[str, Any], timeout_s: float = 600) -> dict[str, Any]:
        """The reply to a request.

        Raises:
            RuntimeFault: `runtime/failed`, with what the server said; `runtime/died` when it is gone.
        """
        request = urllib.request.Request(
            self.address + path,
            data=json.dumps(dict(body)).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"},
        )
        try:
            with _direct().open(request, timeout=timeout_s) as reply:
                return dict(json.load(reply))
        except urllib.error.HTTPError as error:
            said = _message(error.read())
            raise RuntimeFault(
                Fault("runtime/failed", f"llama.cpp refused to answer: {said}", fix=_cure(said), file=str(self.model))
            ) from None
        except OSError as error:
            raise RuntimeFault(
                Fault(
                    "runtime/died",
                    f"llama.cpp stopped answering: {error}; its last words: {_last_words(self.log)}",
                    fix="ask for less at once, or close other programs if memory is short",
                    file=str(self.model),
                )
            ) from None


def _tells_enough(told: Mapping[int, float], never: Collection[int]) -> bool:
    """Whether what is left without the tokens of `never` can be reckoned from a list that may lack some of them."""
    lost = sum(math.exp(told[one]) for one in never if one in told)
    unlisted = sum(one not in told for one in never) * math.exp(min(told.values()))
    return lost < MOST_LOST and unlisted < MOST_UNLISTED


def _without(told: Mapping[int, float], never: Collection[int]) -> dict[int, float]:
    """The log-probabilities of tokens that may come, as shares of what is left without `never`, of which most is."""
    left = math.log1p(-sum(math.exp(told[one]) for one in never if one in told))
    return {one: value - left for one, value in told.items() if one not in never}


def _likeliest(told: Mapping[int, float], top: int) -> dict[int, float]:
    return {one: told[one] for one in sorted(told, key=lambda one: -told[one])[:top]}


def _direct() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would not find this machine


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:300]


def _cure(said: str) -> str:
    if "context" in said:
        return "ask with a shorter conversation"
    return "open the file with llama-server to see the same message, and export it anew"


def _last_words(log: IO[bytes]) -> str:
    """The end of what llama.cpp wrote, on one line."""
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    telling = [line for line in lines if " E " in line or "error" in line.lower()] or lines
    return " / ".join(line.split(" E ")[-1].strip() for line in telling[-3:]) or "nothing"


@contextmanager
def serving(model: Path, n_context: int) -> Iterator[Server]:
    """A server with one model; it ends with the block, or with this process, however that ends.

    Raises:
        RuntimeFault: `runtime/cannot-load`.
    """
    key = secrets.token_hex(16)
    asked = {"model": str(model.resolve()), "n_context": n_context, "n_cores": count_cores(), "key": key}
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "tunesmith.runtimes._llama_cpp_server", json.dumps(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            line = child.stdout.readline()
            if not line:
                child.wait()
                raise RuntimeFault(
                    Fault(
                        "runtime/cannot-load",
                        f"llama.cpp cannot load this file: {_last_words(log)}",
                        fix="export it anew; if it was made elsewhere, update xllamacpp: pip install -U xllamacpp",
                        file=str(model),
                    )
                )
            yield Server(json.loads(line)["address"], key, model, log, child.pid)
        finally:
            child.stdin.close()
            child.stdout.close()
            _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(timeout=10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


class OpenedLlamaCpp:
    """A GGUF that is loaded in llama.cpp."""

    def __init__(self, server: Server, text: Text) -> None:
        self.server, self.text = server, text

    def peak_memory_bytes(self) -> int | None:
        """Of the process that holds the model, which is mapped from its file and counted."""
        return peak_memory_bytes(self.server.pid)

    def render(self, ask: Ask) -> str:
        """The prompt as llama.cpp's own Jinja renders the template in the file.

        Where the file says that BOS is added, llama.cpp takes one off the rendered text and puts it back as a token.
        It is put back here too, so that one too many, or one that training had not, shows.
        """
        if isinstance(ask, str):
            return self.text.lead + ask
        reply = self.server.ask("/apply-template", {"messages": [dict(message) for message in ask]})
        return self._bos + str(reply["prompt"])

    def tokens(self, text: str) -> Sequence[int]:
        """The ids of a rendered prompt: marks are read as tokens, and what the file says is added is added."""
        return self._ids(text.removeprefix(self._bos))

    def _ids(self, text: str) -> list[int]:
        reply = self.server.ask("/tokenize", {"content": text, "add_special": True, "parse_special": True})
        return [int(one) for one in reply["tokens"]]

    @cached_property
    def _plain(self) -> int:
        """A token that is a whole character."""
        reply = self.server.ask("/tokenize", {"content": "a", "add_special": False})
        return int(reply["tokens"][-1])

    @cached_property
    def _bos(self) -> str:
        """The token that llama.cpp puts before every text, as it is written; empty where it puts none."""
        first = self._ids("")[:1]
        return str(self.text.tokenizer.convert_ids_to_tokens(first[0])) if first else ""

    def logprobs(self, prompt: Prompt, top: int) -> Mapping[int, float]:
        """Natural log-probabilities of the `top` likeliest next tokens, by id, before any sampling."""
        # Nothing is told of a token that ends the answer or is part of a character, so a plain one is made to be taken;
        # the probabilities are those before that.
        taken = {"logit_bias": [[self._plain, 1e6]]}
        body = {**GREEDY, **taken, "prompt": list(prompt.ids), "n_predict": 1, "n_probs": top + len(self.text.never)}
        told = self._first(body)
        if not self.text.never:
            return told
        is_enough = _tells_enough(told, self.text.never)
        return _likeliest(_without(told, self.text.never) if is_enough else self._once_suppressed(prompt, top), top)

    def _once_suppressed(self, prompt: Prompt, top: int) -> dict[int, float]:
        """Of tokens that may come, after llama.cpp has suppressed the others, however little those leave.

        Before that its probabilities, in float32, could be nothing at all for every token that may come. These are
        behind its sampling: where the token drawn is one that tells nothing, the plain one is lifted far above all by
        a number that is known, and let down again here.
        """
        import numpy as np

        if told := self._behind_sampling(prompt, 0.0, top):
            return told
        for lift in LIFTS:
            told = self._behind_sampling(prompt, lift, len(self.text.tokenizer))
            if self._plain in told:
                told[self._plain] -= lift
                total = float(np.logaddexp.reduce(list(told.values())))
                return {one: value - total for one, value in told.items()}
        raise CannotTell("llama.cpp tells no probabilities of tokens that are all but impossible")

    def _behind_sampling(self, prompt: Prompt, lift: float, n: int) -> dict[int, float]:
        """The `n` likeliest tokens, the plain one lifted by so many nats; empty where the token drawn tells nothing."""
        bias = [[self._plain, lift], *([one, False] for one in sorted(self.text.never))]
        body = {**GREEDY, **AS_THEY_ARE, "prompt": list(prompt.ids), "n_predict": 1, "n_probs": n, "logit_bias": bias}
        told = self.server.ask("/completion", body).get("completion_probabilities") or [{"top_probs": []}]
        return {int(one["id"]): math.log(one["prob"]) for one in told[0]["top_probs"] if one["prob"]}

    def _first(self, body: Mapping[str, Any]) -> dict[int, float]:
        reply = self.server.ask("/completion", body)
        first = reply["completion_probabilities"][0]
        return {int(one["id"]): float(one["logprob"]) for one in first["top_logprobs"]}

    def answer(self, ask: Ask, max_tokens: int) -> Answer:
        """The greedy answer, with the tokens of the rendered prompt given as they are."""
        ids = self._ids(self.render(ask)) if isinstance(ask, str) else self.tokens(self.render(ask))
        reply = self.server.ask("/completion", {**GREEDY, "prompt": ids, "n_predict": max_tokens})
        timings = reply["timings"]
        return Answer(
            text=str(reply["content"]),
            stopped=reply["stop_type"] == "eos",
            n_prompt_tokens=len(ids),
            n_answer_tokens=int(reply["tokens_predicted"]),
            seconds=(timings["prompt_ms"] + timings["predicted_ms"]) / 1000,
            first_s=timings["prompt_ms"] / 1000,
        )
