import contextlib
import threading
from pathlib import Path

from tunesmith.cli.out import Out


def serve(what: Path, /, *, port: int = 8000) -> Out:
    """The chat page of a web export, on this machine alone.

    Serves it to a browser at 127.0.0.1 until Ctrl-C.

    Args:
        what: A run with a web export, or the folder of a web export.
        port: Port on 127.0.0.1; 0 takes a free one.

    Example:
        $ tunesmith serve runs/demo
        open http://127.0.0.1:8000/ in a browser; Ctrl-C ends it
    """
    from tunesmith.verbs.serve import serve as serving

    held = contextlib.ExitStack()
    address = held.enter_context(serving(what, port=port))
    said = f"open {address} in a browser; Ctrl-C ends it"
    return Out({"address": address}, lambda to: to.print(said, soft_wrap=True), then=lambda: _until_ctrl_c(held))


def _until_ctrl_c(held: contextlib.ExitStack) -> None:
    with held, contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
