"""Serves a web export on this machine alone, so that a browser may open it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tunesmith.errors import Fault, RuntimeFault
from tunesmith.web import packages

LOOPBACK = "127.0.0.1"
TYPES = {".wasm": "application/wasm", ".mjs": "text/javascript", ".js": "text/javascript", ".json": "application/json"}
HOSTS = ("127.0.0.1", "localhost")


def headers() -> dict[str, str]:
    """What is sent with every file, as `_headers` says it, which static hosts read too.

    Cross-origin isolation lets WebAssembly use threads; page and worker may fetch from their own origin alone.
    """
    lines = (packages.HERE / "_headers").read_text(encoding="utf-8").splitlines()[1:]
    return {name.strip(): value.strip() for name, value in (line.split(":", 1) for line in lines)}


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, **TYPES}  # noqa: RUF012 - a name of the base class
    headers_sent = headers()

    def send_head(self) -> Any:
        """The file; not for a name that some site pointed at this machine, nor over a link out of the folder."""
        host = (self.headers.get("Host") or "").rsplit(":", 1)[0]
        inside = Path(self.translate_path(self.path)).resolve().is_relative_to(Path(self.directory).resolve())
        if host in HOSTS and inside:
            return super().send_head()
        self.send_error(404)
        return None

    def end_headers(self) -> None:
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that closes a connection in the middle is no error."""


def server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server of a folder on 127.0.0.1; port 0 takes a free one, found in `server_port`. It does not run yet.

    Raises:
        RuntimeFault: `web/no-page`, when the folder is no web export; `web/port-in-use`.
    """
    if not (folder / "index.html").is_file():
        what = "there is no index.html here"
        raise RuntimeFault(
            Fault("web/no-page", what, fix="make it with: tunesmith export RUN --to web", file=str(folder))
        )
    try:
        return _Server((LOOPBACK, port), partial(_Handler, directory=str(folder)))
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else "ports go from 0 to 65535"
        what = f"port {port} cannot be used: {why}"
        raise RuntimeFault(Fault("web/port-in-use", what, fix="name another port, or 0 for a free one")) from None


@contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[str]:
    """The address of the page while the block lasts."""
    running = server(folder, port)
    thread = Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{running.server_port}/"
    finally:
        running.shutdown()
        running.server_close()
        thread.join()
