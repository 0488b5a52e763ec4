from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

from tunesmith.artifact import Export
from tunesmith.errors import CannotTell, Fault, RuntimeFault
from tunesmith.machine import peak_memory_bytes, processes_with
from tunesmith.ollama_server import Server, get, is_known_older, tagged
from tunesmith.runtimes._contract import Answer, Found
from tunesmith.runtimes._ollama_words import ids_by_text, listed
from tunesmith.text.example import Ask, Prompt
from tunesmith.text.template import Text

GREEDY: Mapping[str, Any] = {
    "temperature": 0,
    "top_k": 1,
    "top_p": 1.0,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "seed": 1,
}
MOST = 20  # more log-probabilities Ollama does not give
DRAWS = 8  # times a first token is drawn before it is given up that one with a text comes


@dataclass(frozen=True)
class Ollama:
    """A running Ollama, asked over HTTP as any program asks it."""

    kind: ClassVar[str] = "ollama"
    takes_ids: ClassVar[bool] = False

    def present(self) -> Found:
        """Whether a server answers, at OLLAMA_HOST or on this machine."""
        return _found(None)

    def present_for(self, export: Export) -> Found:
        """Whether a server answers where this export is asked, and which model it has under the export's name."""
        found = _found(export.about.get("host") or None)
        if not found.here:
            return found
        try:
            return replace(found, holds=Server(found.where).models().get(tagged(export.about["model"]), ""))
        except RuntimeFault:
            return found

    @contextmanager
    def open(self, export: Export, variant: str, text: Text) -> Iterator[OpenedOllama]:
        """The model of an export, made from its own payload where the server does not have it; unloaded afterwards.

        Raises:
            CannotTell: no server answers, or one that is too old for this model.
            RuntimeFault: `runtime/ollama-refused`, with what it said.
        """
        found = _found(export.about.get("host") or None)
        if not found.here:
            raise CannotTell(f"no Ollama answers{f' at {found.where}' if found.where else ''}: {found.get}")
        server, version = Server(found.where), found.version
        chosen = export.variants[variant]
        payload = json.loads(chosen.path.read_text(encoding="utf-8"))
        needed = str(payload.get("requires") or "")
        if needed and is_known_older(version, tuple(int(one) for one in needed.split("."))):
            raise CannotTell(f"Ollama {version} cannot do what this model needs: update it to {needed} or newer")
        weights = (export.folder / chosen.about["gguf"]).resolve()
        if not weights.is_file():
            fix = "make it again with: tunesmith export RUN --to gguf,ollama"
            raise RuntimeFault(Fault("runtime/no-weights", "the GGUF of this model is gone", fix, file=str(weights)))
        server.create(payload, weights)
        opened = OpenedOllama(server, str(payload["model"]), text)
        try:
            yield opened
        finally:
            with suppress(RuntimeFault):
                server.ask("/api/generate", {"model": opened.model, "keep_alive": 0})


def _found(host: str | None) -> Found:
    try:
        server = Server.at(host)
    except RuntimeFault as error:
        (fault,) = error.faults
        return Found(False, get=f"{fault.what}; {fault.fix}")
    version = server.version()
    return Found(bool(version), version, server.address, "" if version else get())


def _told(reply: Mapping[str, Any], *keys: str) -> Any:
    """A value of a reply.

    Raises:
        CannotTell: the reply lacks it, as those of older versions do.
    """
    value: Any = reply
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            raise CannotTell(f"this Ollama does not say {'.'.join(keys)}: update it to 0.30 or newer")
        value = value[key]
    return value


@dataclass(frozen=True)
class OpenedOllama:
    """A model in a running Ollama."""

    server: Server
    model: str
    text: Text

    def render(self, ask: Ask) -> str:
        """The prompt as Ollama renders it, with the BOS token that llama.cpp puts before it; nothing is generated."""
        # A version that does not know the first key generates: one token, then, and no answer.
        reply = self._ask_as_user(ask, {"_debug_render_only": True, "options": {"num_predict": 1}})
        rendered = str(_told(reply, "_debug_info", "rendered_template"))
        return rendered if isinstance(ask, str) else self._bos + rendered

    def tokens(self, text: str) -> int:
        """How many tokens a rendered prompt becomes."""
        reply = self._go_on(text.removeprefix(self._bos), {"num_predict": 1})
        return int(_told(reply, "prompt_eval_count"))

    def logprobs(self, prompt: Prompt, top: int) -> Mapping[int, float]:
        """Log-probabilities of at most 20 likeliest next tokens, as far down as their texts tell their ids.

        They are taken before sampling, so any token may be drawn; one that writes nothing brings none with it.

        Raises:
            CannotTell: the likeliest token cannot be known by its text.
        """
        text = prompt.text.removeprefix(self._bos)
        for draw in range(DRAWS):
            options = {"num_predict": 1, **({"temperature": 2.0, "top_k": 0, "seed": draw} if draw else {})}
            told = self._go_on(text, options, logprobs=True, top_logprobs=min(top, MOST)).get("logprobs")
            if told:
                found = listed(_told(told[0], "top_logprobs"), self._ids, skip_unwritten=bool(self.text.never))
                if found:
                    return found
                raise CannotTell("Ollama names tokens by their text, and the likeliest here is none that stands alone")
        raise CannotTell("Ollama gives no probabilities for a token that writes nothing, such as the end of an answer")

    def answer(self, ask: Ask, max_tokens: int) -> Answer:
        """The greedy answer, asked for as a program would."""
        options = {**GREEDY, "num_predict": max_tokens}
        if self._thinks and not isinstance(ask, str):
            # Asked in the usual way, Ollama takes the thoughts out of the answer.
            reply = self._go_on(self.render(ask).removeprefix(self._bos), options)
        else:
            reply = self._ask_as_user(ask, {"options": options})
        words = _told(reply, "message", "content") if "message" in reply else _told(reply, "response")
        seconds = (int(reply.get("total_duration", 0)) - int(reply.get("load_duration", 0))) / 1e9
        stopped = reply.get("done_reason") == "stop"
        counts = int(reply.get("prompt_eval_count", 0)), int(reply.get("eval_count", 0))
        first = reply.get("prompt_eval_duration")
        return Answer(str(words), stopped, *counts, seconds, None if first is None else int(first) / 1e9)

    def peak_memory_bytes(self) -> int | None:
        """Of the process that holds the model, where it runs here and on no GPU; else what the server says of it."""
        told, on_gpu = self.server.loaded().get(tagged(self.model), (0, 0))
        file = "" if on_gpu or not self.server.is_here else self.server.weights_of(self.model)
        peaks = [peak_memory_bytes(pid) or 0 for pid in processes_with(file)] if file else []
        return max(peaks, default=0) or told or None

    def _ask_as_user(self, ask: Ask, more: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(ask, str):
            return self.server.ask("/api/generate", {"model": self.model, "prompt": ask, **more})
        return self.server.ask("/api/chat", {"model": self.model, "messages": [dict(one) for one in ask], **more})

    def _go_on(self, text: str, options: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """A text as it stands, BOS aside, without any template."""
        body = {"model": self.model, "prompt": text, "raw": True, "options": {**GREEDY, **options}, **more}
        return self.server.ask("/api/generate", body)

    @cached_property
    def _ids(self) -> Mapping[str, int]:
        return ids_by_text(self.text)

    @cached_property
    def _shown(self) -> Mapping[str, Any]:
        return self.server.ask("/api/show", {"model": self.model})

    @property
    def _bos(self) -> str:
        """The BOS token, where llama.cpp adds it to every prompt."""
        is_added = self._shown.get("model_info", {}).get("tokenizer.ggml.add_bos_token")
        return str(self.text.tokenizer.bos_token or "") if is_added else ""

    @property
    def _thinks(self) -> bool:
        return "thinking" in self._shown.get("capabilities", ())
