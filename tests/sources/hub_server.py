"""A hub of the tests' own: a folder of models or data sets, served as the Hub serves them, on 127.0.0.1."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SHA = "0123456789abcdef0123456789abcdef01234567"
STATUS = {"GatedRepo": 403, "RepoNotFound": 404, "RevisionNotFound": 404, "OutOfOrder": 418}


class Hub:
    """Where it listens, and what it was asked."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.asked: list[str] = []
        self.refusals: dict[str, str] = {}
        """A model's name to the error code that the Hub sends for it."""
        self.endpoint = ""


@contextmanager
def serving(top: Path) -> Iterator[Hub]:
    """A hub over a folder that holds `org/name/` folders, of models or of data sets."""
    hub = Hub(top)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *parts: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            hub.asked.append(f"{self.command} {path}")
            parts = path.strip("/").split("/")
            if parts[0] == "api":
                self._about("/".join(parts[2:4]), parts[4:])
            else:
                parts = parts[1:] if parts[0] == "datasets" else parts
                self._file("/".join(parts[:2]), "/".join(parts[4:]))

        def _about(self, name: str, rest: list[str]) -> None:
            if self._refused(name, rest[1] if len(rest) > 1 else "main"):
                return
            files = [file for file in sorted((hub.top / name).rglob("*")) if file.is_file()]
            names = [file.relative_to(hub.top / name).as_posix() for file in files]
            if rest[:1] == ["tree"]:
                entries = [
                    {"type": "file", "path": one, "size": file.stat().st_size, "oid": _hash(file)}
                    for one, file in zip(names, files, strict=True)
                ]
                self._send(json.dumps(entries).encode())
            else:
                siblings = [{"rfilename": one} for one in names]
                self._send(json.dumps({"id": name, "modelId": name, "sha": SHA, "siblings": siblings}).encode())

        def _refused(self, name: str, revision: str) -> bool:
            code = hub.refusals.get(name) or ("" if (hub.top / name).is_dir() else "RepoNotFound")
            if not code and revision not in ("main", "v1", SHA):
                code = "RevisionNotFound"
            if code:
                self.send_response(STATUS.get(code, 500))
                self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()
            return bool(code)

        def _file(self, name: str, file: str) -> None:
            if self._refused(name, "main"):
                return
            path = hub.top / name / file
            self._send(path.read_bytes(), {"ETag": f'"{_hash(path)}"', "X-Repo-Commit": SHA})

        def _send(self, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(200)
            for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _hash(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
