"""Files that are whole or absent: written beside and renamed, hashed, locked, and never outside their folder."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tunesmith import say
from tunesmith.errors import ArtifactError, Fault

PART = ".part-"  # what a name begins with while the file or folder is not whole
EIGHT = "?" * 8  # what tempfile puts behind it
OLD = "old"  # what stood in the place before, inside such a folder


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole: beside, flushed to the disk, then renamed over `path`."""
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to fill; it is flushed and takes the name `path` when the block ends well, and is removed when not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(prefix=PART, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(beside).chmod(0o644)  # mkstemp makes it private; what we write is for others to read
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_new_text(path: Path, text: str) -> bool:
    """Write UTF-8 text whole, unless `path` exists, even if it came to be meanwhile; whether it was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def write_json(path: Path, value: object) -> None:
    """Write JSON whole, indented, ending in a newline; see `write_bytes`."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill; it takes the place of `path` when the block ends well, and is removed when it does not.

    What stood at `path` stays there until then, and is put back when a process was killed while it took the place.
    Other leftovers of killed processes beside it are removed first: hold a folder above with `locked`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path)
    for left in _leftovers(path):
        shutil.rmtree(left, ignore_errors=True)
    beside = Path(tempfile.mkdtemp(prefix=PART, suffix=f"-{path.name}", dir=path.parent))
    Path(beside).chmod(0o755)
    try:
        yield beside
        _flush(beside)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    if path.exists():
        old = Path(tempfile.mkdtemp(prefix=PART, suffix=f"-{path.name}", dir=path.parent))
        path.replace(old / OLD)
        beside.replace(path)
        shutil.rmtree(old, ignore_errors=True)
    else:
        beside.replace(path)


def _flush(folder: Path) -> None:
    """Every file of it to the disk: a rename may get there before what was written."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def recover(path: Path) -> bool:
    """Put back the folder that stood at `path` when a process was killed between its two renames; whether it did."""
    if path.exists():
        return False
    for left in _leftovers(path):
        if (left / OLD).is_dir():
            (left / OLD).replace(path)
            left.rmdir()
            return True
    return False


def _leftovers(path: Path) -> list[Path]:
    # The name is last and whole, so that no longer one is taken for it.
    return sorted(path.parent.glob(f"{PART}{EIGHT}-{glob.escape(path.name)}"))


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(value: object) -> str:
    """The SHA-256 of a value's JSON, with sorted keys, in hex."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def size_bytes(path: Path) -> int:
    """The size of a file, or of all files below a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def free_bytes(path: Path) -> int:
    """The free space where `path` is, or will be."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def inside(folder: Path, name: str) -> Path:
    """The path of `name` in `folder`.

    Raises:
        ArtifactError: `files/outside`, when the name would leave the folder.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ArtifactError(
            Fault("files/outside", f"{name!r} leaves its folder", fix="use a name inside it", file=str(folder))
        )
    return path


@contextmanager
def locked(folder: Path, *, waits: bool = False) -> Iterator[None]:
    """Hold a folder for this process; the lock is gone with the process, however that ends.

    Files that killed processes left half written in it, at any depth, are removed first.

    Args:
        folder: made when it is not there.
        waits: for another process that holds it.

    Raises:
        ArtifactError: `files/in-use`, when another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+b") as file:
        try:
            _lock_patiently(file, folder) if waits else _lock(file)
        except (BlockingIOError, PermissionError):
            raise ArtifactError(
                Fault(
                    "files/in-use",
                    "another tunesmith process is writing here",
                    fix="wait for it to end, or name another folder with --into",
                    file=str(folder),
                )
            ) from None
        except OSError as error:  # some network disks know no locks
            say.warn(f"{folder} cannot be locked ({error.strerror}): see that no other process writes there")
        else:
            _remove_half_written(folder)
        yield


def _remove_half_written(folder: Path) -> None:
    for left in folder.rglob(f"{PART}{EIGHT}"):
        if left.is_file():
            left.unlink()


def _lock_patiently(file: Any, folder: Path) -> None:
    said = False
    while True:
        try:
            return _lock(file)
        except (BlockingIOError, PermissionError):
            if not said:
                say.note(f"waiting for another tunesmith process, which is filling {folder.name}")
            said = True
            time.sleep(0.2)


def _lock(file: Any) -> None:
    """Take the lock or raise BlockingIOError (PermissionError on Windows)."""
    if os.name == "nt":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
