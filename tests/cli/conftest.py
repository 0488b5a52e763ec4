from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def terminal(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """`terminal("list", COLUMNS="40")`: exit code and all that a person at a terminal would see."""
    pty = pytest.importorskip("pty", reason="there are no pseudo terminals here; run it on Linux or macOS")

    def run(*words: str, code: str = "", **environment: str) -> tuple[int, str]:
        command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "tunesmith", *words]
        ours, theirs = pty.openpty()
        plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
        process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=tmp_path,
            env={"COLUMNS": "100", **plain, "TERM": "xterm", **environment},
        )
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not part:
                break
            seen += part
        os.close(ours)
        return process.wait(), seen.decode()

    return run
