"""Node and the locked npm packages: where they are, and how to get them."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tunesmith import files, say
from tunesmith.errors import Fault, RuntimeFault

HERE = Path(__file__).parent
LIBRARY = Path("@huggingface/transformers/dist")
OLDEST_NODE = 18
GET_NODE = "install Node 20 or newer"
TIMEOUT_S = 900


@dataclass(frozen=True)
class Node:
    """A Node that is new enough."""

    path: Path
    version: str


def node() -> Node | None:
    """Node from the PATH; None when there is none, or it is too old."""
    found = shutil.which("node")
    if found is None:
        return None
    done = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=20, check=False)
    version = done.stdout.strip().removeprefix("v")
    major = re.match(r"\d+", version)
    return Node(Path(found), version) if major and int(major[0]) >= OLDEST_NODE else None


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
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeFault(Fault("web/no-packages", "npm, which brings Transformers.js, is not here", fix=GET_NODE))
    with say.progress("install Transformers.js"), files.whole_folder(_cache()) as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder / name)
        _install(npm, folder)
    return _cache() / "node_modules"


def _install(npm: str, folder: Path) -> None:
    # Without the scripts: one of them downloads CUDA libraries that nothing here uses.
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
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
