"""Who asks a run to stop: Ctrl-C, or a scheduler. The step in hand is finished, and a checkpoint is left."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith import say
from tunesmith.errors import Fault, Interrupted


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """Set by Ctrl-C, or by a scheduler's SIGTERM; a second one stops at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread hears signals
        return

    def hear(number: int, _: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        say.note("stopping after this step, with a checkpoint; once more stops at once")
        stop.set()

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupted(run: Path, step: int, steps: int) -> Interrupted:
    """What is said to the person who stopped it."""
    again = f"{run / 'recipe.yaml'} --into {run}"
    return Interrupted(
        Fault(
            "learn/interrupted",
            f"stopped after step {step} of {steps}; a checkpoint is saved",
            fix=f"go on with: tunesmith run {again}; with the tuning alone: tunesmith tune {again} --resume",
            file=str(run),
        )
    )
