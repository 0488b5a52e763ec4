"""A server that speaks OpenAI's chat completions: with a key that nobody sees, tries, and a memory."""

from __future__ import annotations

import http.client
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO, Any

from tunesmith import files, say
from tunesmith.errors import Fault, RuntimeFault

HERE = ("127.0.0.1", "::1", "localhost")
TRIES = 4
FIRST_WAIT_S = 1.0  # doubled with each try
LONGEST_WAIT_S = 60.0
LONGEST_REPLY = 1 << 20  # bytes
BUSY = (408, 409, 425, 429, 500, 502, 503, 504, 529)  # the same question may be answered later
SAID = 300  # characters of what a server said that are repeated


@dataclass(frozen=True)
class Reply:
    """An answer. `stopped` is True where the server says that the model ended it; tokens are 0 where it counts none."""

    text: str
    stopped: bool
    n_prompt_tokens: int
    n_answer_tokens: int
    seconds: float


@dataclass(frozen=True)
class Endpoint:
    """Where to ask: the address up to `/v1`, the model there, and the environment variable that holds the key."""

    address: str
    model: str
    key_from: str
    timeout_s: float
    instead: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Keys of a request that this server, as it said, wants under another name, or not at all (empty)."""

    def refuse(self) -> list[Fault]:
        """An address that would send the texts in the clear, or is none; a variable that holds no key."""
        found = []
        try:
            parts = urllib.parse.urlsplit(self.address)
            host, _ = parts.hostname, parts.port
        except ValueError:
            parts, host = urllib.parse.urlsplit(""), None
        here = host in HERE
        if not host or parts.scheme not in (("http", "https") if here else ("https",)) or parts.username:
            what = f"{_without_secret(self.address)!r} is no https address, nor one of this machine"
            fix = "write for example https://api.openai.com/v1 or http://127.0.0.1:11434/v1"
            found.append(Fault("endpoint/address", what, fix=fix, key="address"))
        if self.key_from and not self._key():
            what = f"the environment variable {self.key_from}, which holds the key, is empty"
            fix = f"export {self.key_from}=... or name the variable that holds it"
            found.append(Fault("endpoint/no-key", what, fix=fix, key="key_from"))
        return found

    def reply(self, messages: Sequence[Mapping[str, Any]], max_tokens: int) -> Reply:
        """The answer at temperature 0, of at most so many tokens; nothing is remembered.

        Raises:
            RuntimeFault: `endpoint/gone` or `endpoint/refused`; see `ask`.
        """
        body = {"model": self.model, "messages": list(messages), "temperature": 0, "max_tokens": max_tokens}
        began = time.perf_counter()
        told = self._told(body)
        seconds = time.perf_counter() - began
        used = told.get("usage") or {}
        n_prompt, n_answer = (int(used.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
        return Reply(_words(told), told["choices"][0].get("finish_reason") == "stop", n_prompt, n_answer, seconds)

    def ask(self, messages: Sequence[Mapping[str, str]], number: int = 0) -> str:
        """The answer at temperature 0, remembered by its content; another `number` asks the same anew.

        Raises:
            RuntimeFault: `endpoint/gone`, when nobody answers after all tries; `endpoint/refused`, with what it
                said.
        """
        body = {"model": self.model, "messages": list(messages), "temperature": 0}
        kept = _memory() / f"{files.sha256_of([self.address, body, number])}.json"
        try:
            return str(json.loads(kept.read_text(encoding="utf-8"))["answer"])
        except (OSError, ValueError, KeyError, TypeError):
            answer = _words(self._told(body))
        files.write_json(kept, {"answer": answer})
        return answer

    def _told(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A reply that has an answer, after as many tries as it takes."""
        for trial in range(TRIES):
            try:
                return self._once({name: value for key, value in body.items() if (name := self.instead.get(key, key))})
            except urllib.error.HTTPError as error:
                said = _said(error)
                if error.code == 400 and trial < TRIES - 1 and self._heeds(said, body):
                    continue
                if error.code not in BUSY or trial == TRIES - 1:
                    raise RuntimeFault(self._refused(f"{error.code}: {said}")) from None
                _wait(trial, error.headers.get("Retry-After", ""))
            except (KeyError, TypeError, IndexError, AttributeError, ValueError):
                if trial == TRIES - 1:
                    raise RuntimeFault(self._refused("a reply that is no chat completion")) from None
                _wait(trial)
            except (OSError, http.client.HTTPException) as error:
                if trial == TRIES - 1:
                    raise RuntimeFault(self._gone(error)) from None
                _wait(trial)
        raise AssertionError("the last try returns or raises")

    def _heeds(self, said: str, body: Mapping[str, Any]) -> bool:
        """Whether a refusal names a key that can be sent otherwise; from now on it is.

        OpenAI's newer models count thoughts into `max_completion_tokens`, and take no temperature.
        """
        wishes = {"max_tokens": "max_completion_tokens"} if "max_completion_tokens" in said else {"temperature": ""}
        ((key, name),) = wishes.items()
        if key in self.instead or key not in body or key not in said:
            return False
        self.instead[key] = name
        if not name:
            say.note(f"{self.model} takes no {key}: asked again, it may answer otherwise")
        return True

    def _once(self, body: Mapping[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.address.rstrip('/')}/chat/completions", data=json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        if key := self._key():
            request.add_unredirected_header("Authorization", f"Bearer {key}")
        is_here = urllib.parse.urlsplit(self.address).hostname in HERE
        proxies = [urllib.request.ProxyHandler({})] if is_here else []  # a proxy cannot reach this machine's own server
        opener = urllib.request.build_opener(_NoRedirect, *proxies)
        with opener.open(request, timeout=self.timeout_s) as reply:
            told: dict[str, Any] = json.loads(reply.read(LONGEST_REPLY))
            _words(told)  # or it is no completion
            return told

    def _key(self) -> str:
        return os.environ.get(self.key_from, "").strip() if self.key_from else ""

    def _refused(self, said: str) -> Fault:
        fix = f"see that {self.model!r} is a model there, and that the variable named for the key holds a valid one"
        return Fault("endpoint/refused", f"the server says {self._hidden(said)}", fix=fix, place=self.address)

    def _gone(self, error: Exception) -> Fault:
        said = self._hidden(str(error).strip() or type(error).__name__)
        fix = f"see that a server answers at {self.address}"
        return Fault("endpoint/gone", f"the server does not answer: {said}", fix=fix, place=self.address)

    def _hidden(self, said: str) -> str:
        """What a server said, shortened, without the key, which some repeat."""
        said = " ".join(said.split())
        return (said.replace(key, "***") if (key := self._key()) else said)[:SAID]


def _words(told: Mapping[str, Any]) -> str:
    return str(told["choices"][0]["message"]["content"] or "")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: the texts and the key go to the address that was named, and nowhere else."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def _wait(trial: int, told: str = "") -> None:
    """As long as the server says, else twice as long each time."""
    wanted = float(told) if told.strip().isdigit() else FIRST_WAIT_S * 2**trial
    time.sleep(min(wanted, LONGEST_WAIT_S))


def _said(error: urllib.error.HTTPError) -> str:
    """The message of an error as OpenAI and others write it, else its text."""
    try:
        text = error.read(LONGEST_REPLY).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return str(error.reason)
    try:
        told = json.loads(text)["error"]
        return str(told["message"] if isinstance(told, dict) else told)
    except (ValueError, KeyError, TypeError):
        return text.strip() or str(error.reason)


def _without_secret(address: str) -> str:
    """An address without the name and password that some write into it."""
    before, at, behind = address.rpartition("@")
    return f"{before.partition('://')[0]}://...@{behind}" if at else address


def _memory() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("tunesmith") / "judge"
