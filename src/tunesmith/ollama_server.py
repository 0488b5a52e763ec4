"""An Ollama server, spoken to over its HTTP API: is it there, does it have a model, make one, ask it."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tunesmith import files, say
from tunesmith.errors import Fault, RuntimeFault

PORT = 11434
HOST = re.compile(r"[\w.-]+|[0-9a-fA-F:.%]+")
BLOCK = 1 << 20
WRONG_REPLY = (OSError, ValueError, KeyError, TypeError, AttributeError, http.client.HTTPException)  # or none at all
SUPPRESSES = (0, 32, 14)  # from here on, tokens that a GGUF says are never written are not; earlier ones were not tried
NATIVE_JINJA = (0, 30)  # from this version on, a GGUF's own chat template is used where no TEMPLATE stands


@dataclass(frozen=True)
class Server:
    """Where a server is, or would be; nothing is asked until a method is called."""

    address: str

    @classmethod
    def at(cls, host: str | None = None) -> Server:
        """The server of `host`, else of the environment's OLLAMA_HOST, else of this machine, as Ollama reads them.

        Raises:
            RuntimeFault: `runtime/ollama-address`, when that is no address.
        """
        word = (host or os.environ.get("OLLAMA_HOST") or "").strip().strip("\"'")
        scheme, found, rest = word.partition("://")
        if not found:
            scheme, rest = "http", word
        port = PORT if not found else {"http": 80, "https": 443}.get(scheme, PORT)
        try:
            parts = urllib.parse.urlsplit(f"//{rest}")
            name, port = parts.hostname or "127.0.0.1", parts.port or port
        except ValueError:
            raise RuntimeFault(_no_address(word)) from None
        if scheme not in ("http", "https") or not HOST.fullmatch(name):
            raise RuntimeFault(_no_address(word))
        name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # where it listens is not where one calls
        name = f"[{name}]" if ":" in name else name
        return cls(f"{scheme}://{name}:{port}{parts.path.rstrip('/')}")

    def version(self) -> str:
        """Its version; empty when none answers."""
        try:
            with self._open("/api/version", timeout_s=3) as reply:
                return str(json.load(reply).get("version", ""))
        except WRONG_REPLY:
            return ""

    def ask(self, path: str, body: Mapping[str, Any], timeout_s: float = 600) -> dict[str, Any]:
        """The reply to a request, in one piece.

        Raises:
            RuntimeFault: `runtime/ollama-refused` with what it said; `runtime/ollama-gone` when it stops answering.
        """
        try:
            with self._open(path, _json({**body, "stream": False}), timeout_s) as reply:
                return dict(json.load(reply))
        except WRONG_REPLY as error:
            raise RuntimeFault(self._fault(path, error)) from None

    def models(self) -> Mapping[str, str]:
        """The digest of each model that it has, by name and tag as `tagged` writes them.

        Raises:
            RuntimeFault: as `ask`.
        """
        try:
            with self._open("/api/tags", timeout_s=30) as reply:
                return {tagged(str(one["name"])): str(one["digest"]) for one in json.load(reply)["models"] or []}
        except WRONG_REPLY as error:
            raise RuntimeFault(self._fault("/api/tags", error)) from None

    @property
    def is_here(self) -> bool:
        """Whether its address is one of this machine."""
        return urllib.parse.urlsplit(self.address).hostname in ("127.0.0.1", "::1", "localhost")

    def weights_of(self, model: str) -> str:
        """The file of the weights of a model, as the server names it to the process that loads it; may be empty.

        Raises:
            RuntimeFault: as `ask`.
        """
        lines = str(self.ask("/api/show", {"model": model}).get("modelfile", "")).splitlines()
        return next((line.removeprefix("FROM ") for line in lines if line.startswith("FROM ")), "")

    def loaded(self) -> Mapping[str, tuple[int, int]]:
        """The bytes of memory that each loaded model takes, as the server says: in all, and of a GPU's.

        By name and tag; some versions say 0 of what is on the processor.

        Raises:
            RuntimeFault: as `ask`.
        """
        try:
            with self._open("/api/ps", timeout_s=30) as reply:
                models = json.load(reply)["models"] or []
                return {tagged(str(one["name"])): (int(one["size"]), int(one.get("size_vram", 0))) for one in models}
        except WRONG_REPLY as error:
            raise RuntimeFault(self._fault("/api/ps", error)) from None

    def create(self, payload: Mapping[str, Any], weights: Path) -> bool:
        """Make the model of a body for `/api/create`, unless it was made from the same before and is still there.

        Args:
            payload: `model`, `files` with the digest of `weights`, and what else the model has.
            weights: the GGUF; sent only when the server does not have it.

        Returns:
            Whether anything was made.

        Raises:
            RuntimeFault: `runtime/ollama-name-taken`, when another model has that name; else as `ask`.
        """
        name, owner = tagged(str(payload["model"])), owner_of(weights)
        stands = self.models().get(name)
        if stands is not None and not self._is_ours(name, stands, owner):
            raise RuntimeFault(self._taken(name))
        made = {"payload": files.sha256_of(payload), "digest": stands, "owner": owner}
        if self._stamp(name) == made:
            return False
        (digest,) = payload["files"].values()
        if not self._has_blob(digest):
            self._send_blob(digest, weights)
        self._create(payload)
        files.write_json(_stamp(self.address, name), {**made, "digest": self.models().get(name)})
        return True

    def is_free(self, name: str, weights: Path) -> bool:
        """Whether a model of these weights may have this name, as far as can be known while no server answers.

        Raises:
            RuntimeFault: as `ask`.
        """
        name, owner = tagged(name), owner_of(weights)
        stands = self.models().get(name) if self.version() else self._stamp(name).get("digest")
        return stands is None or self._is_ours(name, str(stands), owner)

    def _is_ours(self, name: str, digest: str, owner: str) -> bool:
        """Whether the model that stands there was made from these exports, or from some that are gone."""
        stamp = self._stamp(name)
        holder = str(stamp.get("owner") or owner)
        return stamp.get("digest") == digest and (holder == owner or not Path(holder).is_dir())

    def _stamp(self, name: str) -> Mapping[str, Any]:
        """What was made here under a name, and from whose weights; empty when nothing was."""
        try:
            return dict(json.loads(_stamp(self.address, name).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return {}

    def _taken(self, name: str) -> Fault:
        by = self._stamp(name).get("owner")
        what = f"Ollama has another model named {name}" + (f", perhaps the one of {by}" if by else "")
        word = name.removesuffix(":latest")
        fix = f"set another name: for the ollama export, or remove that model: ollama rm {word}"
        return Fault("runtime/ollama-name-taken", what, fix=fix, place=self.address)

    def _has_blob(self, digest: str) -> bool:
        try:
            with self._open(f"/api/blobs/{digest}", timeout_s=30, method="HEAD"):
                return True
        except urllib.error.HTTPError:
            return False
        except WRONG_REPLY as error:
            raise RuntimeFault(self._fault("/api/blobs", error)) from None

    def _send_blob(self, digest: str, path: Path) -> None:
        size = path.stat().st_size
        with path.open("rb") as file, say.progress("send the weights to Ollama", size, "bytes") as bar:
            try:
                self._open(f"/api/blobs/{digest}", _Counted(file, bar), 3600, length=size).close()
            except WRONG_REPLY as error:
                raise RuntimeFault(self._fault("/api/blobs", error)) from None

    def _create(self, payload: Mapping[str, Any]) -> None:
        with say.progress(f"create {payload['model']} in Ollama") as bar:
            try:
                with self._open("/api/create", _json({**payload, "stream": True}), 3600) as reply:
                    for told in _lines(reply):
                        if "error" in told:
                            raise ValueError(str(told["error"]))
                        bar.advance(1, str(told.get("status", "")))
            except WRONG_REPLY as error:
                raise RuntimeFault(self._fault("/api/create", error)) from None

    def _open(
        self, path: str, body: bytes | _Counted | None = None, timeout_s: float = 600, method: str = "", length: int = 0
    ) -> Any:
        request = urllib.request.Request(self.address + path, data=body, method=method or None)
        request.add_header(
            "Content-Type", "application/json" if isinstance(body, bytes) else "application/octet-stream"
        )
        if length:
            request.add_header("Content-Length", str(length))
        # A proxy cannot reach this machine's own server.
        proxies = [urllib.request.ProxyHandler({})] if self.is_here else []
        return urllib.request.build_opener(*proxies).open(request, timeout=timeout_s)

    def _fault(self, path: str, error: Exception) -> Fault:
        if isinstance(error, urllib.error.HTTPError):
            said = error.read().decode(errors="replace")
            found = re.search(r'"error"\s*:\s*"((?:[^"\\]|\\.)*)"', said)
            said = found[1] if found else said or str(error)
        elif isinstance(error, ValueError):
            said = str(error)
        else:
            fix = f"see that a server runs at {self.address}: {get()}"
            said = str(error).strip() or type(error).__name__
            return Fault("runtime/ollama-gone", f"Ollama does not answer: {said}", fix=fix, place=path)
        fix = "see the log of `ollama serve`; it may need more memory or a newer version"
        return Fault("runtime/ollama-refused", f"Ollama says: {said.strip()}", fix=fix, place=path)


def _no_address(word: str) -> Fault:
    fix = "write host:port, such as 127.0.0.1:11434, into OLLAMA_HOST or host: of the ollama export"
    return Fault("runtime/ollama-address", f"{word!r} is no address of an Ollama server", fix=fix)


def get() -> str:
    """How to have a server, as something to type."""
    if shutil.which("ollama"):
        return "start it with: ollama serve"
    return "install the newest Ollama from its site (ollama.com), then start it with: ollama serve"


def is_known_older(version: str, wanted: tuple[int, ...]) -> bool:
    """Whether a server is older than a version; one built without a number (0.0.0) is taken for new."""
    numbers = tuple(int(one) for one in re.findall(r"\d+", version)[:3])
    return any(numbers) and numbers[: len(wanted)] < wanted


def tagged(name: str) -> str:
    """A model's name with its tag; two that Ollama takes for one are one: it looks at no case and adds `library/`."""
    word = name.lower().removeprefix("library/")
    return word if ":" in word.rpartition("/")[2] else f"{word}:latest"


def owner_of(weights: Path) -> str:
    """Whose model it is: the folder of the GGUF, which stays the same when a run is done anew."""
    return str(weights.resolve().parent)


def digest_of(path: Path) -> str:
    """The digest by which Ollama knows a file."""
    hashed = hashlib.sha256()
    with path.open("rb") as file, say.progress("hash the weights", path.stat().st_size, "bytes") as bar:
        while block := file.read(BLOCK):
            hashed.update(block)
            bar.advance(len(block))
    return f"sha256:{hashed.hexdigest()}"


class _Counted:
    """A file that tells a bar how much of it was read."""

    def __init__(self, file: IO[bytes], bar: say.Bar) -> None:
        self.file, self.bar = file, bar

    def read(self, n_bytes: int = BLOCK) -> bytes:
        """The next piece."""
        block = self.file.read(max(n_bytes, BLOCK))
        self.bar.advance(len(block))
        return block


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def _lines(reply: IO[bytes]) -> Iterator[dict[str, Any]]:
    for line in reply:
        if line.strip():
            yield json.loads(line)


def _stamp(address: str, name: str) -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("tunesmith") / "ollama" / (files.sha256_of([address, name])[:24] + ".json")
