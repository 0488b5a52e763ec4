"""What can go wrong, said so that a person can mend it: a code, what was seen, where, and how to mend it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    `code` is `room/what-is-wrong`, stable, listed in `docs/errors.md`. `what` holds the value that was seen, in lower
    case, with one clause of why. `fix` is something a person can type or change. The place is a file with its line
    (from 1) and key, where there is one, or free words in `place`.
    """

    code: str
    what: str
    fix: str
    file: str = ""
    line: int | None = None
    key: str = ""
    place: str = ""

    @property
    def at(self) -> str:
        """The place in words: `train.jsonl, line 17, messages[2].role`."""
        parts = [self.file, f"line {self.line}" if self.line is not None else "", self.key, self.place]
        return ", ".join(part for part in parts if part)

    def __str__(self) -> str:
        """The three lines a person reads."""
        lines = [f"error[{self.code}]: {self.what}"]
        if self.at:
            lines.append(f"  at   {self.at}")
        lines.append(f"  fix  {self.fix}")
        return "\n".join(lines)

    def as_json(self) -> Mapping[str, object]:
        """The same for programs; keys as `docs/json.md` promises."""
        return {"code": self.code, "what": self.what, "at": self.at, "fix": self.fix}


class TunesmithError(Exception):
    """One or more faults, all that could be found at once.

    `exit_code` is 1 when the work or the answer failed, 2 when the command or its recipe was wrong, 130 when somebody
    stopped it.
    """

    exit_code = 1

    def __init__(self, faults: Fault | Sequence[Fault]) -> None:
        self.faults: tuple[Fault, ...] = (faults,) if isinstance(faults, Fault) else tuple(faults)
        if not self.faults:
            raise ValueError("an error without a fault says nothing")
        super().__init__("\n\n".join(str(fault) for fault in self.faults))


class RecipeError(TunesmithError):
    """The recipe or the command cannot be understood."""

    exit_code = 2


class PlanError(TunesmithError):
    """What is asked cannot be done; found before any weight was loaded."""

    exit_code = 2


class DataError(TunesmithError):
    """The data cannot be learnt from as it stands."""


class SourceError(TunesmithError):
    """The base model cannot be had or read."""


class LearnError(TunesmithError):
    """Training cannot start, go on or resume."""


class Interrupted(LearnError):
    """Somebody stopped the training; what it had learnt is saved."""

    exit_code = 130  # what shells say of a command that Ctrl-C ended


class ArtifactError(TunesmithError):
    """A folder is not what it should be, is damaged, or is in use."""


class ExportError(TunesmithError):
    """The model cannot be written in the form that was asked for."""


class RuntimeFault(TunesmithError):
    """A runtime is missing, or did not answer as its contract says."""


class CannotTell(Exception):
    """A check cannot be made here; `why` holds the reason and the way to get what is missing."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
