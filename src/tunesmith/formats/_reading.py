"""A data set: from the names of files to examples, with every fault of every row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from tunesmith import rooms, say
from tunesmith.errors import DataError, Fault
from tunesmith.formats._contract import Format
from tunesmith.formats._foreign import cure, preference
from tunesmith.text import rows
from tunesmith.text.example import Example
from tunesmith.text.row import CELLS, kind_of

LOOK_AT = 20  # rows from which the format is found
SAID_EVERY = 1000  # rows: a bar that moves with each of them takes longer than reading


class Taken(NamedTuple):
    """What one row gave: its example, or every fault of it. `row` is None where there is none at all.

    `source` says which of the names that were given it comes from, from 0.
    """

    row: rows.Row | None
    example: Example | None
    faults: tuple[Fault, ...] = ()
    source: int = 0


class _Source:
    """What stands behind one of the names, and how its rows are read."""

    def __init__(self, found: Sequence[Path], missing: Sequence[Fault], format: str | None) -> None:
        self.found, self.missing = found, missing
        self.is_named = bool(format)
        self.reader: Format | None = rooms.find("formats", format)() if format else None

    def is_known(self, seen: Sequence[rows.Row]) -> bool:
        """Whether it is known how the rows are read, once these have been seen."""
        self.reader = self.reader or _claim(seen)
        return self.reader is not None


class Stream:
    """The rows of files, globs, folders and Hub data sets one by one, so that data of any size goes through.

    It may be gone through once. `format` is how they are read, empty until that is known; each name may have its own,
    given in a list as long as `paths`, and else found from its first rows. `n_rows` counts the good and the bad ones
    that have come. The files behind `without` are left out of globs and folders. Faults come among the rows.

    Raises:
        RecipeError: `recipe/unknown-member`, when there is no such format.
    """

    def __init__(
        self,
        paths: str | Sequence[str],
        format: str | Sequence[str | None] | None = None,
        without: str | None = None,
    ) -> None:
        names = [paths] if isinstance(paths, str) else list(paths)
        formats = [format] * len(names) if format is None or isinstance(format, str) else list(format)
        left_out = rows.find([without])[0] if without else ()
        taken: set[Path] = set()
        self._sources = []
        for name, kind in zip(names, formats, strict=True):
            found, missing = rows.find([name], left_out)
            self._sources.append(_Source([one for one in found if one not in taken], missing, kind))
            taken.update(found)
        self.n_rows = 0

    @property
    def format(self) -> str:
        """The format's name, or names; empty until a row has shown it."""
        return ", ".join(dict.fromkeys(source.reader.kind for source in self._sources if source.reader))

    def __iter__(self) -> Iterator[Taken]:
        n_seen = n_said = 0
        with say.progress("read", None, "rows") as bar:
            for number, source in enumerate(self._sources):
                for fault in source.missing:
                    n_seen += 1
                    yield Taken(None, None, (fault,), number)
                for taken in self._rows(source, number):
                    n_seen += 1
                    if n_seen - n_said >= SAID_EVERY:
                        bar.advance(n_seen - n_said)
                        n_said = n_seen
                    yield taken
            bar.advance(n_seen - n_said)
        for source in self._sources:
            if source.reader is not None:
                _tell(source.reader, "" if source.is_named else ", ".join(map(str, source.found[:2])))
        if not n_seen:
            fix = "give a file with rows in it"
            yield Taken(None, None, (Fault("data/no-rows", "there is no row to learn from", fix=fix),))

    def _rows(self, source: _Source, number: int) -> Iterator[Taken]:
        """Rows wait until one of the first shows how they are read; what no format claims ends the reading."""
        waiting: list[rows.Row] = []
        coming = chain.from_iterable(map(rows.read, source.found))
        for one in coming:
            if isinstance(one, Fault):
                self.n_rows += one.line is not None
                yield Taken(None, None, (one,), number)
                continue
            self.n_rows += 1
            waiting.append(one)
            if len(waiting) >= LOOK_AT or source.reader or _claim(waiting):
                break
        if not waiting:
            return
        if not source.is_known(waiting):
            yield Taken(waiting[0], None, (_unclaimed(waiting[0]),), number)
            return
        assert source.reader is not None
        read = source.reader.read
        self.n_rows -= len(waiting)  # they come again
        for one in chain(waiting, coming):
            if isinstance(one, Fault):
                self.n_rows += one.line is not None
                yield Taken(None, None, (one,), number)
                continue
            self.n_rows += 1
            result = read(one.value, one.file, one.line)
            if isinstance(result, Example):
                yield Taken(one, result, (), number)
            else:
                yield Taken(one, None, tuple(result), number)


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


def read(
    paths: str | Sequence[str], format: str | Sequence[str | None] | None = None, without: str | None = None
) -> Reading:
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
        if any(member.claims(row.value) and not preference(row.value) for row in seen):
            made: Format = member()
            return made
    return None


def _unclaimed(first: rows.Row) -> Fault:
    place: dict[str, Any] = {"file": first.file, "line": first.line}
    keys = ", ".join(map(str, first.value)) or "(none)"
    told = preference(first.value)
    if told:
        what = f"rows with {told} say which answer is better, and nothing here learns from that"
        fix = "keep the good answers alone, as prompt and completion or as messages"
        return Fault("data/preference-rows", what, fix=fix, **place)
    if kind_of(first.file)[0] in CELLS:
        what = f"no known format has the columns {keys}"
        fix = "name them on the first line: prompt,completion or instruction,output or text or messages"
        return Fault("data/unknown-format", what, fix=fix, file=first.file, line=1)
    what = f"no known format has rows with the keys {keys}"
    known = ", ".join(rooms.names("formats"))
    fix = cure(first.value) or f'write {{"messages": [...]}} or {{"text": "..."}}; formats: {known}'
    return Fault("data/unknown-format", what, fix=fix, **place)


def _tell(reader: Format, found_in: str) -> None:
    if found_in:
        say.note(f"{found_in}: read as {reader.kind}, by the look of the rows")
    if reader.ignored:
        passed = ", ".join(f"{key} ({count})" for key, count in reader.ignored.most_common())
        say.note(f"keys that {reader.kind} does not use, passed over: {passed}")
    for told, count in (+reader.notes).items():
        say.note(f"{told}: {count:,} rows")
