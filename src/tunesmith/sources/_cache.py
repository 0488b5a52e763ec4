"""Where brought models are kept, and how two processes that bring the same one keep out of each other's way."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith import files, say


def cache(room: str) -> Path:
    """The folder for one kind of thing; the environment variable TUNESMITH_CACHE moves it."""
    import platformdirs

    top = os.environ.get("TUNESMITH_CACHE")
    return (Path(top).expanduser() if top else platformdirs.user_cache_path("tunesmith")) / room


@contextmanager
def once(folder: Path) -> Iterator[Path | None]:
    """A new folder to fill in place of `folder`, or None when it is there, also once another process has filled it."""
    if folder.is_dir():
        yield None
        return
    with files.locked(folder.parent / "locks" / folder.name, waits=True):
        if folder.is_dir():
            yield None
            return
        with files.whole_folder(folder) as beside:
            yield beside


@contextmanager
def watched(folder: Path, label: str, n_bytes: int | None = None) -> Iterator[None]:
    """Progress of a fetch whose own bars we cannot hear, by what the folder has grown."""
    ended = threading.Event()
    with say.progress(label, n_bytes, "bytes") as bar:

        def watch() -> None:
            seen, is_last = _size(folder), False
            while not is_last:
                is_last = ended.wait(0.5)
                now = max(seen, _size(folder) if n_bytes is None else min(_size(folder), n_bytes))
                bar.advance(now - seen)
                seen = now

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()


def _size(folder: Path) -> int:
    try:
        return files.size_bytes(folder) if folder.is_dir() else 0
    except OSError:  # a part was renamed while we looked
        return 0
