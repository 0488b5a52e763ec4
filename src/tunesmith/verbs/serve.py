from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.artifact import Run
from tunesmith.web.serve import serving


@contextmanager
def serve(what: str | Path | Run, *, port: int = 0) -> Iterator[str]:
    """The address of a run's chat page, on this machine alone, while the block lasts.

    Args:
        what: a run with a web export, or the folder of a web export, wherever it was copied to.
        port: the port on 127.0.0.1; 0 takes a free one.

    Raises:
        RuntimeFault: `web/no-page`, `web/port-in-use`.
    """
    folder = what.folder if isinstance(what, Run) else Path(what)
    page = folder if (folder / "index.html").is_file() else Run(folder).export_folder("web")
    with serving(page, port) as address:
        yield address
