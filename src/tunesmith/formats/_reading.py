"""A data set: from the names of files to examples, with every fault of every row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from tunesmith import rooms, say
from tunesmith.errors import DataError, Fault
from tunesmith.formats._contract import Format
from tunesmith.formats._foreign import cure
from tunesmith.text import rows
from tunesmith.text.example import Example

LOOK_AT = 20  # rows from which the format is found


@dataclass(frozen=True)
class Taken:
    """What one row gave: its example, or every fault of it. `row` is None where there is none at all."""

    row: rows.Row | None
    example: Example | None
    faults: tuple[Fault, ...] = ()


class Stream:
    """The rows of files, globs and folders one by one, so that data of any size goes through; may be gone through once.

    `format` is how they are read, empty until that is known; `n_rows` counts the good and the bad ones that have come.
    The files behind `without` are left out of globs and folders. Faults of the data come among the rows.

    Raises:
        RecipeError: `recipe/unknown-member`, when there is no such format.
    """

    def __init__(self, paths: str | Sequence[str], format: str | None = None, without: str | None = None) -> None:
        self._reader: Format | None = rooms.find("formats", format)() if format else None
        self._is_named = bool(format)
        left_out = rows.find([without])[0] if without else ()
        self._found, self._missing = rows.find([paths] if isinstance(paths, str) else paths, left_out)
        self.n_rows = 0

    @property
    def format(self) -> str:
        """The format's name; empty until a row has shown it."""
        return self._reader.kind if self._reader else ""

    def __iter__(self) -> Iterator[Taken]:
        for fault in self._missing:
            yield Taken(None, None, (fault,))
        n_usable = n_faults = 0
        with say.progress("read", None, "rows") as bar:
            for taken in self._rows():
                bar.advance(1)
                n_usable += taken.example is not None
                n_faults += bool(taken.faults)
                yield taken
        if self._reader is not None:
            _tell(self._reader, "" if self._is_named else ", ".join(map(str, self._found[:2])))
        if not n_usable and not n_faults and not self._missing:
            fix = "give a file with rows in it"
            yield Taken(None, None, (Fault("data/no-rows", "there is no row to learn from", fix=fix),))

    def _rows(self) -> Iterator[Taken]:
        """Rows wait until one of the first shows how they are read; what no format claims ends the reading."""
        waiting: list[rows.Row] = []
        for one in chain.from_iterable(map(rows.read, self._found)):
            if isinstance(one, Fault):
                self.n_rows += one.line is not None
                yield Taken(None, None, (one,))
                continue
            self.n_rows += 1
            waiting.append(one)
            if self._reader is None and len(waiting) < LOOK_AT and not _claim(waiting):
                continue
            if not self._is_known(waiting):
                break
            yield from map(self._take, waiting)
            waiting.clear()
        if not waiting:
            return
        if self._is_known(waiting):
            yield from map(self._take, waiting)
        else:
            yield Taken(waiting[0], None, (_unclaimed(waiting[0]),))

    def _is_known(self, seen: Sequence[rows.Row]) -> bool:
        self._reader = self._reader or _claim(seen)
        return self._reader is not None

    def _take(self, row: rows.Row) -> Taken:
        assert self._reader is not None
        result = self._reader.read(row.value, row.file, row.line)
        return Taken(row, result) if isinstance(result, Example) else Taken(row, None, tuple(result))


@dataclass(frozen=True)
class Reading:
    """What was read: the examples without fault, in order, and all faults. `n_rows` counts good and bad rows."""

    examples: tuple[Example, ...]
    faults: tuple[Fault, ...]
    format: str
    n_rows: int

    def or_raise(self) -> Reading:
        """This reading, when every row can be used.

        Raises:
            DataError: with all the faults.
        """
        if self.faults:
            raise DataError(self.faults)
        return self


def read(paths: str | Sequence[str], format: str | None = None, without: str | None = None) -> Reading:
    """All of a `Stream` at once.

    Raises:
        RecipeError: `recipe/unknown-member`, when there is no such format.
    """
    stream = Stream(paths, format, without)
    examples: list[Example] = []
    faults: list[Fault] = []
    for taken in stream:
        faults.extend(taken.faults)
        if taken.example is not None:
            examples.append(taken.example)
    return Reading(tuple(examples), tuple(faults), stream.format, stream.n_rows)


def _claim(seen: Sequence[rows.Row]) -> Format | None:
    for name in rooms.names("formats"):
        member = rooms.find("formats", name)
        if any(member.claims(row.value) for row in seen):
            made: Format = member()
            return made
    return None


def _unclaimed(first: rows.Row) -> Fault:
    what = f"no known format has rows with the keys {', '.join(map(str, first.value)) or '(none)'}"
    known = ", ".join(rooms.names("formats"))
    fix = cure(first.value) or f'write {{"messages": [...]}} or {{"text": "..."}}; formats: {known}'
    return Fault("data/unknown-format", what, fix=fix, file=first.file, line=first.line)


def _tell(reader: Format, found_in: str) -> None:
    if found_in:
        say.note(f"{found_in}: read as {reader.kind}, by the look of the rows")
    if reader.ignored:
        passed = ", ".join(f"{key} ({count})" for key, count in reader.ignored.most_common())
        say.note(f"keys that {reader.kind} does not use, passed over: {passed}")
    for told, count in (+reader.notes).items():
        say.note(f"{told}: {count:,} rows")
