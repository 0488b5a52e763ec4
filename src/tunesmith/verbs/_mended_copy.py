"""A copy of the data with only what can be learnt from: mended where that takes no guess, the rest put apart."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tunesmith import files, rooms, say
from tunesmith.errors import Fault, RecipeError
from tunesmith.formats._contract import Format
from tunesmith.formats._mend import as_row, mended
from tunesmith.formats._reading import Stream, Taken
from tunesmith.text.example import Example
from tunesmith.verbs._fault_groups import Faults
from tunesmith.verbs._what_is_learnt import Learnt

MOST_KNOWN = 5_000_000  # rows that are remembered, to leave out their equals
A_ROW_A_LINE = (".jsonl", ".ndjson")
_WHOLE_FILE = "data/not-json-lines"  # its line is only where the file begins


@dataclass
class Fixed:
    """What was written, what was done to it, and what was put apart."""

    file: str
    rejected: str
    n_written: int = 0
    n_rejected: int = 0
    n_not_copied: int = 0
    """Rejected rows that are in no file: their text cannot be had by the line."""
    done: Counter[str] = field(default_factory=Counter)
    left: Faults = field(default_factory=Faults)
    """The faults that could not be mended."""

    def as_json(self) -> Mapping[str, Any]:
        """The same for programs; keys as `docs/json.md` promises."""
        return {
            "file": self.file,
            "rows": self.n_written,
            "done": [{"what": what, "rows": n} for what, n in self.done.most_common()],
            "left": [group.as_json() for group in self.left.groups],
            "rejected": {
                "file": self.rejected if self.n_rejected > self.n_not_copied else None,
                "rows": self.n_rejected,
            },
        }


def rejected_beside(out: Path) -> Path:
    """Where rows go that could not be mended: `chats.rejected.jsonl` beside `chats.jsonl`."""
    return out.with_name(f"{out.stem}.rejected{out.suffix}")


def refuse(out: str) -> list[Fault]:
    """Why the copy cannot be written there; empty when it can."""
    path = Path(out)
    if path.suffix != ".jsonl":
        fix = f"name it {path.stem or 'mended'}.jsonl"
        return [Fault("inspect/not-jsonl", f"the mended copy is JSON lines, and {out!r} is not named so", fix=fix)]
    fix = "name another file, or move it away"
    there = [one for one in (path, rejected_beside(path)) if one.exists()]
    return [Fault("inspect/exists", "it is there already, and is not written over", fix, str(one)) for one in there]


def write(
    data: Sequence[str],
    format: str | None,
    out: str,
    *,
    without: str | None,
    drop: Iterable[tuple[str, int]],
    learnt: Learnt | None,
) -> Fixed:
    """Write the copy, and the rows that cannot be learnt from beside it.

    Args:
        data: files, globs or folders.
        format: how the rows are read; found from them when None.
        out: the file to write.
        without: a file of test rows, which is left out.
        drop: places of rows that are left out.
        learnt: what refuses rows that a model cannot learn from; None: no model was named.

    Raises:
        RecipeError: `inspect/exists`, when there is such a file.
    """
    refused = refuse(out)
    if refused:
        raise RecipeError(refused)
    path = Path(out)
    with files.whole_file(path) as good, files.whole_file(rejected_beside(path)) as bad, _without_notes():
        stream = Stream(data, format, without)
        copy = _Copy(stream, good, bad, Fixed(out, str(rejected_beside(path))), frozenset(drop), learnt)
        for taken in stream:
            copy.take(taken)
    if copy.fixed.n_rejected == copy.fixed.n_not_copied:
        rejected_beside(path).unlink()
    return copy.fixed


@contextmanager
def _without_notes() -> Iterator[None]:
    """The rows were read once already: what is worth knowing of them was said."""
    before = say.hear(say.Silent())
    say.hear(_Bars(before))
    try:
        yield
    finally:
        say.hear(before)


class _Bars(say.Silent):
    """Progress alone."""

    def __init__(self, voice: say.Voice) -> None:
        self.start, self.stop = voice.start, voice.stop  # type: ignore[method-assign]


@dataclass(frozen=True)
class _Good:
    """The row to write, what is in it, and what was done to it."""

    value: Mapping[str, Any]
    example: Example
    done: Sequence[str] = ()


@dataclass
class _Copy:
    stream: Stream
    good: BinaryIO
    bad: BinaryIO
    fixed: Fixed
    drop: frozenset[tuple[str, int]]
    learnt: Learnt | None
    known: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.readers: dict[str, Format] = {name: rooms.find("formats", name)() for name in rooms.names("formats")}
        self.raw = _RawLines()
        self.file = ""

    def take(self, taken: Taken) -> None:
        place = taken.row or next(iter(taken.faults))
        if place.file and place.file != self.file:
            self.file = place.file
            self.fixed.done.update(_of_the_file(Path(place.file)))
        if taken.row is None:
            self._reject(taken)
            return
        found = self._usable(taken)
        if not isinstance(found, _Good):
            self._reject(Taken(taken.row, None, found))
            return
        if (taken.row.file, taken.row.line) in self.drop or self._is_known(found.example):
            self.fixed.done["equal rows left out"] += 1
            return
        self.fixed.done.update(found.done)
        self.fixed.n_written += 1
        self.good.write(_line(found.value))

    def _usable(self, taken: Taken) -> _Good | tuple[Fault, ...]:
        """The row to write, or why there is none."""
        assert taken.row is not None
        found = self._read(taken)
        if found is None:
            return taken.faults
        if self.learnt is not None:
            weighed = self.learnt.see(found.example)
            if not weighed.made:
                return weighed.faults
        return found

    def _read(self, taken: Taken) -> _Good | None:
        row, are_texts = taken.row, self.stream.format == "text"
        assert row is not None
        if taken.example is not None:
            return self._as_ours(row.value, taken.example)
        if are_texts:
            return None
        for name, reader in self.readers.items():
            if name != "text" and reader.claims(row.value):
                other = reader.read(row.value, row.file, row.line)
                if isinstance(other, Example):
                    return self._as_ours(row.value, other)
        mend = mended(row.value, self.readers["messages"], row.file, row.line)
        return _Good(mend.value, mend.example, mend.done) if mend else None

    def _as_ours(self, value: Mapping[str, Any], example: Example) -> _Good:
        """The row as it stands where that is a row of messages or of text, else written as one."""
        if _is_json(value) and (isinstance(value.get("messages"), list) if example.is_chat else "text" in value):
            return _Good(value, example)
        name = next((name for name, reader in self.readers.items() if reader.claims(value)), "another format")
        told = () if name in ("messages", "text") else (f"{name} written as messages",)
        return _Good(as_row(example), example, told)

    def _is_known(self, example: Example) -> bool:
        told = json.dumps([example.messages, example.learn, example.tools, example.text], sort_keys=True)
        name = hashlib.blake2b(told.encode(), digest_size=16).digest()
        if name in self.known:
            return True
        if len(self.known) < MOST_KNOWN:
            self.known.add(name)
        return False

    def _reject(self, taken: Taken) -> None:
        self.fixed.left.see(taken.faults)
        if taken.row is not None:
            self.fixed.n_rejected += 1
            self.bad.write(_line(taken.row.value))
            return
        (fault, *_) = taken.faults
        if fault.line is None:
            return
        self.fixed.n_rejected += 1
        raw = self.raw.at(Path(fault.file), fault.line) if fault.code != _WHOLE_FILE else None
        if raw is None:
            self.fixed.n_not_copied += 1
        else:
            self.bad.write(raw.rstrip(b"\r\n") + b"\n")


def _is_json(value: Mapping[str, Any]) -> bool:
    """Whether it can be written as it is: tables may hold dates, bytes and NaN."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass") + b"\n"


def _of_the_file(path: Path) -> list[str]:
    """What a copy alters in how the file is written."""
    if path.suffix.lower() not in A_ROW_A_LINE or not path.is_file():
        return []
    with path.open("rb") as file:
        line = file.readline(1 << 20)
    bom = ["a byte order mark left out, in a file"] if line.startswith(b"\xef\xbb\xbf") else []
    return [*bom, *(["lines ended by a line feed alone, in a file"] if line.endswith(b"\r\n") else [])]


class _RawLines:
    """Lines of files as they stand, asked for in order."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._lines: Any = iter(())
        self._at = 0

    def at(self, path: Path, line: int) -> bytes | None:
        """The line, from 1; None where lines are no rows, or it cannot be had."""
        if path.suffix.lower() not in A_ROW_A_LINE:
            return None
        if path != self._path or line <= self._at:
            self._path, self._at, self._lines = path, 0, _lines_of(path)
        for raw in self._lines:
            self._at += 1
            if self._at == line:
                return None if b"\0" in raw else bytes(raw)
        return None


def _lines_of(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        yield from file
