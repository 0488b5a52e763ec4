from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from tunesmith.artifact import Export, Model
from tunesmith.errors import Fault
from tunesmith.machine import Machine
from tunesmith.weights.facts import BaseFacts


class Exporter(Protocol):
    """What files a runtime wants. Members are Parts of the recipe; their options are what a person may choose."""

    kind: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]  # exports that are made first and handed to `write`
    runtimes: ClassVar[tuple[str, ...]]  # the runtimes in which it is checked

    def refuse(self, facts: BaseFacts, machine: Machine) -> list[Fault]:
        """Why such a model cannot be written: told before training, from config and tokenizer files alone."""

    def disk_bytes(self, facts: BaseFacts) -> int:
        """An upper bound of what `write` leaves on the disk."""

    def write(self, model: Model, made: Mapping[str, Export], into: Path) -> Export:
        """Fill the empty folder `into`, which is renamed into its place afterwards, and say what is in it.

        `made` holds the exports named in `needs`. The manifest is not written here.

        Raises:
            ExportError: with what the tool behind it said.
        """


@runtime_checkable
class Dependent(Protocol):
    """An exporter that is made of others."""

    def refuse_beside(self, needed: Mapping[str, Any]) -> list[Fault]:
        """Why it cannot be made of the exporters that it needs, with the options that they have."""


@runtime_checkable
class Placed(Protocol):
    """An exporter that also puts the model somewhere outside its folder."""

    def put_again(self, export: Export) -> Export:
        """Put the model of a kept export there, if it is not there; the export as it is then."""


@runtime_checkable
class Staged(Protocol):
    """An exporter that needs no other and works in two parts: what uses all cores, or starts a process, comes first."""

    kind: ClassVar[str]
    apart: ClassVar[bool]  # whether a process of its own does the work: others are made meanwhile

    def begun(self, model: Model, into: Path) -> AbstractContextManager[Callable[[], Export]]:
        """The first part, done; gives the second, which is then what `write` is. Left early, a process is ended.

        Raises:
            ExportError: as `write` does, here or in the second part.
        """
