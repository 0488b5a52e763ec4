"""Talk on a terminal: bars while something runs, a line when it took a while."""

import sys
import time
from typing import Any

from tunesmith import say

LONG_SECONDS = 2.0


def chosen() -> say.Voice:
    """Bars where stderr is a terminal, plain lines elsewhere."""
    return Rich() if sys.stderr.isatty() else say.Plain()


class Rich:
    """Bars on stderr, one below the other; they go when the task ends, and a line stays of those that took a while."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._live: Any = None
        self._n_open = 0

    def note(self, text: str) -> None:
        """A line above the bars."""
        self.console.print(text)

    def warn(self, text: str) -> None:
        """A yellow line above the bars."""
        self.console.print(f"warning: {text}", style="yellow")

    def start(self, label: str, total: float | None, unit: str) -> say.Bar:
        """A bar below those that are there."""
        if self._live is None:
            self._live = _bars(self.console)
            self._live.start()
        self._n_open += 1
        return _RichBar(self._live, label, total, unit)

    def stop(self, bar: say.Bar, done: bool) -> None:
        """Take the bar away."""
        assert isinstance(bar, _RichBar)
        bar.remove()
        self._n_open -= 1
        if self._n_open == 0:
            self._live.stop()
            self._live = None
        seconds = time.monotonic() - bar.began
        if done and seconds >= LONG_SECONDS:
            self.console.print(say.ended(bar.label, bar.at, bar.unit, seconds), style="dim")


def _bars(console: Any) -> Any:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[amount]}", markup=False),
        TextColumn("{task.fields[said]}", style="dim", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        expand=False,
    )


class _RichBar:
    def __init__(self, live: Any, label: str, total: float | None, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.at, self.began = 0.0, time.monotonic()
        self._live = live
        self._task = live.add_task(label, total=total, amount=say.amount_of(0, total, unit), said="")

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        self.at += amount
        shown = say.amount_of(self.at, self.total, self.unit)
        changes = {"said": note} if note else {}
        self._live.update(self._task, advance=amount, amount=shown, **changes)

    def remove(self) -> None:
        self._live.remove_task(self._task)
