"""Talk to the person: notes, warnings and progress. It goes to stderr; data goes to stdout.

The rooms only call `note`, `warn` and `progress`. Who listens is chosen once by `hear`: the command line puts in a
voice with bars, a program that embeds tunesmith may put in its own, and with nobody listening plain lines are printed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PLAIN_SECONDS = 10.0


class Bar(Protocol):
    """A task that is under way."""

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        """Move on by `amount` of the total; `note` stands beside the bar, such as the last loss."""


class Voice(Protocol):
    """Who listens."""

    def note(self, text: str) -> None:
        """Worth knowing."""

    def warn(self, text: str) -> None:
        """Likely a slip."""

    def start(self, label: str, total: float | None, unit: str) -> Bar:
        """A task begins; `total` in `unit`, None when it is not known."""

    def stop(self, bar: Bar, done: bool) -> None:
        """The task ended; `done` is False when it was left by an exception."""


class _PlainBar:
    def __init__(self, label: str, total: float | None, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.at, self.began = 0.0, time.monotonic()
        self._said = self.began

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        self.at += amount
        if time.monotonic() - self._said >= PLAIN_SECONDS:
            self._said = time.monotonic()
            _line(f"{self.label}: {amount_of(self.at, self.total, self.unit)} {note}".rstrip())


class Plain:
    """Lines to stderr; a task says something every ten seconds, and at its end when it took that long."""

    def note(self, text: str) -> None:
        """A line."""
        _line(text)

    def warn(self, text: str) -> None:
        """A line that begins with `warning:`."""
        _line(f"warning: {text}")

    def start(self, label: str, total: float | None, unit: str) -> Bar:
        """Says nothing yet: most tasks are short."""
        return _PlainBar(label, total, unit)

    def stop(self, bar: Bar, done: bool) -> None:
        """A line for a task that took more than ten seconds and ended well."""
        assert isinstance(bar, _PlainBar)
        seconds = time.monotonic() - bar.began
        if done and seconds >= PLAIN_SECONDS:
            _line(ended(bar.label, bar.at, bar.unit, seconds))


def _line(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def amount_of(at: float, total: float | None, unit: str) -> str:
    """How far a task is: `12 of 300 steps`, `1.5 of 98.0 MB`."""
    if unit == "bytes":
        at, total, unit = at / 1e6, None if total is None else total / 1e6, "MB"
        shown = [f"{value:.1f}" for value in (at, total) if value is not None]
    else:
        shown = [
            f"{value:,.0f}" if value == int(value) else f"{value:,.1f}" for value in (at, total) if value is not None
        ]
    return " ".join([" of ".join(shown), unit]).strip()


def ended(label: str, at: float, unit: str, seconds: float) -> str:
    """The line that stays of a task: `tune: 300 steps in 41 s`."""
    took = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
    return f"{label}: {amount_of(at, None, unit)} in {took}" if at else f"{label}: done in {took}"


class Silent:
    """Nobody listens."""

    def note(self, text: str) -> None:
        """Nothing."""

    def warn(self, text: str) -> None:
        """Nothing."""

    def start(self, label: str, total: float | None, unit: str) -> Bar:
        """A bar that nobody sees."""
        return _SilentBar()

    def stop(self, bar: Bar, done: bool) -> None:
        """Nothing."""


class _SilentBar:
    def advance(self, amount: float = 1.0, note: str = "") -> None:
        pass


_voice: Voice = Plain()


def hear(voice: Voice) -> Voice:
    """Put in who listens from now on; gives back who listened before."""
    global _voice
    before, _voice = _voice, voice
    return before


def note(text: str) -> None:
    """Say something worth knowing."""
    _voice.note(text)


def warn(text: str) -> None:
    """Say something that is likely a slip."""
    _voice.warn(text)


@contextmanager
def progress(label: str, total: float | None = None, unit: str = "") -> Iterator[Bar]:
    """A task that may take more than two seconds, for as long as the block runs.

    `with progress("tune", 300, "steps") as bar: bar.advance(1)`
    """
    voice = _voice
    bar = voice.start(label, total, unit)
    done = False
    try:
        yield bar
        done = True
    finally:
        voice.stop(bar, done)
