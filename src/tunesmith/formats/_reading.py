"""A data set: from the names of files to examples, with every fault of every row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunesmith import rooms, say
from tunesmith.errors import DataError, Fault
from tunesmith.formats._contract import Format
from tunesmith.formats._foreign import cure
from tunesmith.text import rows
from tunesmith.text.example import Example

LOOK_AT = 20  # rows from which the format is found


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
    """The examples in files, globs and folders. Faults of the data are in the result, not raised.

    The files behind `without` are left out of globs and folders.

    Raises:
        RecipeError: `recipe/unknown-member`, when there is no such format.
    """
    reader: Format | None = rooms.find("formats", format)() if format else None
    found, faults = rows.find([paths] if isinstance(paths, str) else paths, rows.find([without])[0] if without else ())
    examples: list[Example] = []
    n_rows, waiting = 0, list[rows.Row]()
    with say.progress("read", None, "rows") as bar:
        for one in _all(found):
            bar.advance(1)
            if isinstance(one, Fault):
                faults.append(one)
                n_rows += one.line is not None
                continue
            n_rows += 1
            waiting.append(one)
            if reader is None and len(waiting) < LOOK_AT and not _claim(waiting):
                continue
            reader = reader or _reader(waiting, faults)
            if reader is None:
                return Reading((), tuple(faults), "", n_rows)
            for row in waiting:
                _take(reader, row, examples, faults)
            waiting.clear()
    if waiting:
        _reader(waiting, faults)
    if reader is not None:
        _tell(reader, "" if format else ", ".join(map(str, found[:2])))
    if not examples and not faults:
        faults.append(Fault("data/no-rows", "there is no row to learn from", fix="give a file with rows in it"))
    return Reading(tuple(examples), tuple(faults), reader.kind if reader else "", n_rows)


def _all(found: Iterable[Path]) -> Iterable[rows.Row | Fault]:
    for path in found:
        yield from rows.read(path)


def _take(reader: Format, row: rows.Row, examples: list[Example], faults: list[Fault]) -> None:
    result = reader.read(row.value, row.file, row.line)
    if isinstance(result, Example):
        examples.append(result)
    else:
        faults.extend(result)


def _claim(seen: Sequence[rows.Row]) -> Format | None:
    for name in rooms.names("formats"):
        member = rooms.find("formats", name)
        if any(member.claims(row.value) for row in seen):
            made: Format = member()
            return made
    return None


def _reader(seen: Sequence[rows.Row], faults: list[Fault]) -> Format | None:
    reader = _claim(seen)
    if reader is None:
        first = seen[0]
        what = f"no known format has rows with the keys {', '.join(map(str, first.value)) or '(none)'}"
        known = ", ".join(rooms.names("formats"))
        fix = cure(first.value) or f'write {{"messages": [...]}} or {{"text": "..."}}; formats: {known}'
        faults.append(Fault("data/unknown-format", what, fix=fix, file=first.file, line=first.line))
    return reader


def _tell(reader: Format, found_in: str) -> None:
    if found_in:
        say.note(f"{found_in}: read as {reader.kind}, by the look of the rows")
    if reader.ignored:
        passed = ", ".join(f"{key} ({count})" for key, count in reader.ignored.most_common())
        say.note(f"keys that {reader.kind} does not use, passed over: {passed}")
    for told, count in (+reader.notes).items():
        say.note(f"{told}: {count:,} rows")
