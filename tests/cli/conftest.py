from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

LONGEST_SECONDS = 120.0


@pytest.fixture
def terminal(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """`terminal("list", COLUMNS="40")`: exit code and all that a person at a terminal would see.

    `typed`: what the person types, one entry at each `> ` that asks for it.
    """
    pty = pytest.importorskip("pty", reason="there are no pseudo terminals here; run it on Linux or macOS")

    def run(*words: str, code: str = "", typed: Sequence[str] = (), **environment: str) -> tuple[int, str]:
        command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "tunesmith", *words]
        ours, theirs = pty.openpty()
        plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
        given = {"COLUMNS": "100", **plain, "TERM": "xterm", **environment}
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env=given)
        os.close(theirs)
        timer = threading.Timer(LONGEST_SECONDS, process.kill)
        timer.start()
        try:
            seen = _talk(ours, [one.encode() for one in typed])
            return process.wait(), seen.decode()
        finally:
            timer.cancel()
            os.close(ours)

    return run


def _talk(ours: int, typed: list[bytes]) -> bytes:
    seen = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux says so when the other end is closed
            return seen
        if not part:
            return seen
        seen += part
        if typed and seen.endswith(b"> "):
            os.write(ours, typed.pop(0))
