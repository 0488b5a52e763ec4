"""Which files are meant: by a name, a pattern, a folder, a data set's folder, or a data set of the Hub."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterable, Sequence, Set
from pathlib import Path

from tunesmith import say
from tunesmith.errors import Fault
from tunesmith.rooms import did_you_mean
from tunesmith.text import row_hub
from tunesmith.text.row import is_table, is_text, known

ABOUT = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")  # of a data set, not its rows
_SPLIT = r"(?:^|[-._ 0-9/])(?:{words})(?=[-._ 0-9/]|$)"
TRAIN = re.compile(_SPLIT.format(words="train|training"), re.IGNORECASE)
HELD_OUT = re.compile(_SPLIT.format(words="test|testing|eval|evaluation|dev|val|valid|validation"), re.IGNORECASE)


def find(paths: Sequence[str], without: Sequence[Path] = ()) -> tuple[list[Path], list[Fault]]:
    """The files behind names, each once and in order; and a fault for each name with none behind it.

    A name is that of a file, a folder, a pattern or a data set of the Hub. Of a folder, its tables are taken, and its
    texts (`.txt`, `.md`) where it has no table. Where files of it are named for splits, those of test and validation
    are left out. Files of `without` are left out of folders and patterns.
    """
    found: dict[Path, None] = {}
    faults: list[Fault] = []
    left_out = {one.resolve() for one in without}
    for name in paths:
        here = _behind(name, left_out)
        if isinstance(here, Fault):
            faults.append(here)
        else:
            found.update(dict.fromkeys(here))
    return list(found), faults


def _behind(name: str, left_out: Set[Path]) -> list[Path] | Fault:
    path = Path(name)
    try:
        if path.is_dir():
            return _in_folder(path, left_out)
        if path.exists():
            return [path]
        if row_hub.is_named(name):
            return row_hub.fetch(name)
        if glob.has_magic(name):
            matched = glob.glob(name, recursive=True)  # noqa: PTH207  # takes absolute patterns
            files = _files(map(Path, matched), left_out)
            return files or Fault("data/no-files", "no file matches", fix="check the pattern, and quote it", file=name)
        near = tuple(one.name for one in path.parent.iterdir()) if path.parent.is_dir() else None
    except (OSError, ValueError) as error:
        return Fault("data/unreadable", f"cannot be read: {error}", fix="check the name and its rights", file=name)
    if near is None and row_hub.may_be_one(name):
        return row_hub.fetch(name)
    files_near = tuple(one for one in near or () if is_table(one) or is_text(one))
    cure = did_you_mean(path.name, files_near) if files_near else "check the path"
    return Fault("data/no-such-file", "there is no such file", fix=cure, file=name)


def _in_folder(folder: Path, left_out: Set[Path]) -> list[Path] | Fault:
    """Its rows; where it is a data set, the rows of its training split."""
    if (folder / "dataset_dict.json").is_file():
        return _saved_splits(folder, left_out)
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return _saved(folder)
    inside = _files(folder.iterdir(), left_out)
    inside = [one for one in inside if not one.name.startswith(".") and one.name not in ABOUT]
    tables = [one for one in inside if is_table(one)]
    below = folder / "data"
    if not tables and below.is_dir():
        return _in_folder(below, left_out)
    files = tables or [one for one in inside if is_text(one)]
    if not files:
        return Fault(
            "data/no-files", "no data file in this folder", fix=f"put one of {known()} there", file=str(folder)
        )
    return _of_training(files, str(folder))


def _of_training(files: list[Path], name: str) -> list[Path]:
    """Without what is named for test or validation, where something is named for training."""
    if not any(TRAIN.search(one.name) for one in files):
        return files
    kept = [one for one in files if TRAIN.search(one.name) or not HELD_OUT.search(one.name)]
    if len(kept) < len(files):
        passed = ", ".join(one.name for one in files if one not in kept)
        say.note(f"{name}: left out, by their names: {passed}")
    return kept


def _saved_splits(folder: Path, left_out: Set[Path]) -> list[Path] | Fault:
    """Of splits as `save_to_disk` of `datasets` leaves them, that of training, or the only one."""
    try:
        splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        names = [str(one) for one in splits if (folder / str(one)).is_dir()]
    except (ValueError, KeyError, TypeError) as error:
        return _not_saved(folder / "dataset_dict.json", error)
    chosen = "train" if "train" in names else names[0] if len(names) == 1 else ""
    if not chosen:
        what = f"this data set has the splits {', '.join(names) or '(none)'}, and none is called train"
        fix = f"name one of them: {folder / names[0]}" if names else "save it anew"
        return Fault("data/no-such-split", what, fix=fix, file=str(folder))
    if len(names) > 1:
        say.note(f"{folder}: its split {chosen} is read; also there: {', '.join(set(names) - {chosen})}")
    return _in_folder(folder / chosen, left_out)


def _saved(folder: Path) -> list[Path] | Fault:
    """The files of one split, in the order in which their rows stand."""
    try:
        listed = json.loads((folder / "state.json").read_text(encoding="utf-8"))["_data_files"]
        return [folder / Path(str(one["filename"])).name for one in listed]
    except (ValueError, KeyError, TypeError) as error:
        return _not_saved(folder / "state.json", error)


def _not_saved(path: Path, error: Exception) -> Fault:
    what = f"not as save_to_disk leaves it: {type(error).__name__}"
    return Fault("data/unreadable", what, fix="save the data set anew", file=str(path))


def _files(paths: Iterable[Path], left_out: Set[Path]) -> list[Path]:
    return sorted(one for one in paths if one.is_file() and one.resolve() not in left_out)
