"""Where brought models are kept, and how two processes that bring the same one keep out of each other's way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith import files


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
