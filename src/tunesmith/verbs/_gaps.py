"""What stops no run, but is worth mending before it: what will not be made or checked here, and what stands there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith import rooms
from tunesmith.artifact import MARK, Run
from tunesmith.errors import TunesmithError
from tunesmith.verbs._ready import Ready, data_hash
from tunesmith.verbs.export import wanted


@dataclass(frozen=True)
class Gap:
    """What will lack, in words, and how to get it."""

    what: str
    get: str


def gaps_of(ready: Ready, folder: Path) -> Iterator[Gap]:
    """Everything that can be told now."""
    yield from _folder(ready, folder)
    yield from _weights(ready)
    yield from _runtimes(ready)


def _folder(ready: Ready, folder: Path) -> Iterator[Gap]:
    """Another run or something else stands where this one would."""
    if not Run(folder).begun:
        if folder.is_dir() and any(not one.name.startswith(".") for one in folder.iterdir()):
            yield Gap(f"{folder} holds something else, and tuning will not begin there", "name another with --into")
        return
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
        data = data_hash(ready.recipe)
    except (OSError, ValueError):
        return
    now = {"data": data, "learning": ready.recipe.learning_hash()}
    if any(mark.get(key) != value for key, value in now.items()):
        what = f"{folder} holds a run of another recipe or other data, and this one will not begin there"
        yield Gap(what, "name another folder with --into, or begin anew with --fresh")


def _weights(ready: Ready) -> Iterator[Gap]:
    """A folder that is the base and has no weights."""
    folder = Path(ready.recipe.base)
    if ready.facts is not None and folder.is_dir() and not any(folder.glob("*.safetensors")):
        what = f"{folder} has no .safetensors file, and tuning will not begin without the base's weights"
        yield Gap(what, "put them there, or name a model that has them")


def _runtimes(ready: Ready) -> Iterator[Gap]:
    """Runtimes that are not here: the exports are made, and cannot be checked or put in there."""
    if ready.facts is None:
        return
    for export in wanted(ready.recipe.export):
        for name in type(export).runtimes:
            gap = _runtime(export, name)
            if gap is not None:
                yield gap


def _runtime(export: Any, name: str) -> Gap | None:
    if getattr(export, "host", None):  # a server elsewhere is its own affair
        return None
    try:
        found = rooms.find("runtimes", name)().present()
    except (TunesmithError, ImportError) as error:
        return Gap(f"{name} cannot be asked: {str(error).splitlines()[0]}", "tunesmith doctor")
    if found.here:
        return None
    return Gap(f"{name} is not here: what {type(export).kind} writes will not be checked in it", found.get)
