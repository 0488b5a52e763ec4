"""What the members of this room share about all rows: 24 bytes a row, and the answers that repeat."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from tunesmith.risks._contract import Place
from tunesmith.risks._row import Row

if TYPE_CHECKING:
    import numpy as np

    from tunesmith.text.template import Text

LINE_BITS, FILE_BITS = 40, 22  # of a place in 64 bits; the bit above them says whether it is in a test file
TEST = 1 << (LINE_BITS + FILE_BITS)
N_LABELS, LONGEST_LABEL = 2_000, 80  # more or longer answers than this are no set of labels
N_EACH = 5  # times that a label stands on average, at least


class Seen:
    """Every row so far as three numbers of 64 bits: its content, its prompt, its place.

    The content is all that is learnt from, but for blanks at the ends of turns; the prompt is what stands before the
    last answer that is learnt, 0 where nothing was asked. Two that differ have the same number once in 10^19 pairs.
    """

    def __init__(self, text: Text | None = None) -> None:
        self.text = text
        self.labels = Labels()
        self.n_train = self.n_test = 0
        self._contents, self._prompts, self._places = array("Q"), array("Q"), array("Q")
        self._files: dict[str, int] = {}
        self._names: list[str] = []

    def take(self, row: Row) -> None:
        """Takes a row in, before the members see it."""
        file = self._files.setdefault(row.where.file, len(self._files))
        if file == len(self._names):
            self._names.append(row.where.file)
        content, prompt = _numbers(row)
        self._contents.append(content)
        self._prompts.append(prompt)
        self._places.append(TEST * row.test | file << LINE_BITS | row.where.line)
        if row.test:
            self.n_test += 1
        else:
            self.n_train += 1
            if row.example.messages:
                self.labels.add(row)

    @property
    def n(self) -> int:
        """How many rows there are."""
        return self.n_train + self.n_test

    @property
    def last_content(self) -> int:
        """The number of the last row's content."""
        return self._contents[-1]

    def contents(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """The contents of all rows (N,)."""
        return _numbers_of(self._contents)

    def prompts(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """The prompts of all rows (N,); 0 where there is none."""
        return _numbers_of(self._prompts)

    def is_test(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether each row (N,) is in a test file."""
        return _numbers_of(self._places) >= TEST

    def place(self, number: int) -> Place:
        """Where the row of this number stands."""
        packed = self._places[number] & (TEST - 1)
        return Place(self._names[packed >> LINE_BITS], packed & ((1 << LINE_BITS) - 1))


class Labels:
    """How often each answer of the rows to learn from stands, as long as they may be a set of labels."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, int] = {}
        """The number of the first row with each."""
        self._may_be = True

    def add(self, row: Row) -> None:
        """Counts the answer of one row."""
        if not self._may_be:
            return
        self.counts[row.answer] += 1
        self.first.setdefault(row.answer, row.number)
        if not row.answer or len(row.answer) > LONGEST_LABEL or len(self.counts) > N_LABELS:
            self._may_be = False
            self.counts.clear()
            self.first.clear()

    @property
    def is_set(self) -> bool:
        """Whether the answers are labels: short, and each stands some times."""
        return bool(self.counts) and self.counts.total() >= N_EACH * max(len(self.counts), 4)


def _numbers_of(kept: array[int]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    import numpy as np

    return np.frombuffer(kept, np.uint64) if kept else np.zeros(0, np.uint64)


def _numbers(row: Row) -> tuple[int, int]:
    """(content, prompt)."""
    one = row.example
    digest = blake2b(digest_size=8)
    if one.tools:
        digest.update(_json(one.tools))
    for turn in row.before:
        digest.update(_written(turn))
    asked = any(turn["role"] != "system" for turn in row.before)
    prompt = int.from_bytes(digest.digest(), "little") or 1 if asked else 0
    for turn in one.messages[row.n_before :]:
        digest.update(_written(turn))
    digest.update(bytes(one.learn) + _bytes(one.text))
    return int.from_bytes(digest.digest(), "little"), prompt


def _written(turn: Mapping[str, Any]) -> bytes:
    """A turn so that no two differing ones are written alike: no text holds the bytes F8 and F9."""
    written = b"\xf8%b\xf9%b" % (_bytes(turn["role"]), _bytes(turn["content"].strip()))
    if len(turn) == 2:
        return written
    return b"%b\xf9%b" % (written, _json({key: value for key, value in turn.items() if key not in ("role", "content")}))


def _json(value: Any) -> bytes:
    return _bytes(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
