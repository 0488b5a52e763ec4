"""What some tests need from outside Python: where it is, and how to get it. `tools/test.py` brings all of it.

Only the standard library is imported at the top, because `tools/test.py` reads this file before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "src" / "tunesmith" / "web"
SHARED_DATA = ROOT.parent / "shared" / "data"
CACHE = Path(os.environ.get("TUNESMITH_TEST_CACHE") or "~/.cache/tunesmith-tests").expanduser()

OLLAMA_VERSION = "0.32.14"
LLAMA_SERVER = "0.10434.0"  # the llama.cpp build that this Ollama pins, b10434
OLLAMA = CACHE / f"ollama-{OLLAMA_VERSION}"

NO_SKIP = "TUNESMITH_NO_SKIP"  # set by tools/test.py where all parts are here: then a skipped test is a failed one
MAY_BE_ABSENT = "data sets beside the checkout"
GET_ALL = "run: python3 tools/test.py"


@dataclass(frozen=True)
class OllamaServer:
    """A running Ollama of the tests' own."""

    host: str
    version: str
    folder: Path
    """Where it keeps its models and its log."""


def ollama_binary() -> Path | None:
    """The Ollama built for the tests, else one on the PATH."""
    built = OLLAMA / "bin" / "ollama"
    if built.is_file():
        return built
    found = shutil.which("ollama")
    return Path(found) if found else None


def chromium() -> Path | None:
    """The system's Chromium, or Chrome."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return Path(found)
    return None


def node() -> Path | None:
    """Node as tunesmith finds it: on the PATH, or the one that the `web` extra brings."""
    from tunesmith.web import packages

    found = packages.node()
    return found.path if found else None


def npm_packages() -> Path | None:
    """The locked npm packages of the web export, once they are installed."""
    folder = WEB / "node_modules"
    return folder if (folder / "@huggingface" / "transformers").is_dir() else None


def need_node() -> Path:
    """Node, with the locked npm packages installed beside the web export; skips where either is missing."""
    binary = node()
    if binary is None:
        _skip("Node is missing", GET_ALL)
    if npm_packages() is None:
        _skip("the npm packages are missing", f"cd {WEB.relative_to(ROOT)} && npm ci --ignore-scripts")
    return binary


def need_chromium() -> Path:
    """A Chromium to open pages in; skips where there is none."""
    found = chromium()
    if found is None:
        _skip("Chromium is missing", "apt-get install chromium")
    return found


def need_shared_data(name: str) -> Path:
    """A file of the data sets that lie beside the checkout; skips where they do not."""
    path = SHARED_DATA / name
    if not path.is_file():
        _skip(f"{MAY_BE_ABSENT}: {name} is missing", f"put it into {SHARED_DATA}")
    return path


def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct, from the bundle; skips where it cannot be fetched."""
    from tunesmith.errors import SourceError
    from tunesmith.sources.bundle import Bundle

    try:
        return Bundle().bring("bundle:smollm2-135m-instruct")
    except SourceError as error:
        _skip(f"the real model is missing: {error.faults[0].what}", GET_ALL)


def _skip(what: str, get: str) -> NoReturn:
    import pytest

    pytest.skip(f"{what}; to get it, {get}")


def can_build_ollama() -> bool:
    """The server wheel is for glibc on x86-64 alone."""
    import platform

    return sys.platform == "linux" and platform.machine() == "x86_64"
