"""Near equality of texts, by the hashes of their word triples: the smallest ones of each text stand for all of them.

A. Broder, On the resemblance and containment of documents, 1997.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, np.dtype[np.uint64]]
    Ints = np.ndarray[Any, np.dtype[np.int64]]

WIDTH = 64  # hashes that are kept of a text
N_WORDS = 20_000  # that are looked at of a text
N_BUFFERED = 200_000  # words
BLANKS = bytes(one if one > 127 or chr(one).isalnum() else 32 for one in range(256))
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")  # of Chinese and Japanese a letter
UNPARTED = re.compile(rb"[\xe3-\xe9]")  # first bytes of their letters in UTF-8
MARK = re.compile(rb"\xe2[\x80-\x8b].|\xc2.")  # General Punctuation, mathematical signs, the signs of Latin-1

ALIKE = 0.8  # of all triples of two texts, those that both have
N_CHANGED = 24  # triples of a conversation that may differ: four words, each in three triples on both sides
FEWEST = 8  # triples from which likeness can be told
N_KEYS = 8  # by the smallest hashes of a text it is compared with others
TEMPLATE, N_TEMPLATE = 0.1, 100  # what stands in that share of the texts, and in as many, belongs to none of them
N_PAIRS = 20_000  # are compared at once
HASH_BITS = 46  # of a sketch; the other 18 number the rows of one buffer
NONE = 2**64 - 1


def words_of(text: str) -> list[bytes]:
    """The words of a text without capitals and marks."""
    low = text.lower()
    written = low.encode("utf-8", "surrogatepass")
    if not text.isascii():
        if UNPARTED.search(written):
            return [one.encode() for one in WORD.findall(low)[:N_WORDS]]
        written = MARK.sub(b" ", written)
    return written.translate(BLANKS).split(None, N_WORDS)[:N_WORDS]


@dataclass(frozen=True)
class _Kept:
    """Rows of the sample: number, content, hash of all words, n triples, whether a chat; and sketches (N, WIDTH)."""

    number: Numbers
    content: Numbers
    key: Numbers
    whole: Numbers
    size: Ints
    chat: Ints
    sketch: Numbers

    def take(self, at: Any) -> _Kept:
        return _Kept(*(getattr(self, name)[at] for name in self.__dataclass_fields__))


class Sketches:
    """Sketches of the rows with the smallest keys, `n_most` at most; the key is the smallest hash of a row's triples.

    Texts that are nearly equal have one key nearly always, so they are kept or left out together.
    """

    def __init__(self, n_most: int) -> None:
        self._n_most = n_most
        self._words, self._sizes, self._rows = array("I"), array("q"), array("Q")
        self._kept: list[_Kept] = []
        self._n_kept = 0
        self._below = NONE
        self.n_left_out = 0

    def add(self, number: int, content: int, words: Sequence[bytes], is_chat: bool) -> None:
        """Takes a row in."""
        if not words:
            return
        self._words.extend(map(crc32, words))
        self._words.extend((0, 0))
        self._sizes.append(len(words))
        self._rows.extend((number, content, is_chat))
        if len(self._words) > N_BUFFERED:
            self._flush()

    def _flush(self) -> None:
        """From words to hashes of triples, and of those to the sketches of the rows that belong to the sample."""
        import numpy as np

        if not self._sizes:
            return
        sizes = np.array(self._sizes, np.int64)
        rows = np.array(self._rows, np.uint64).reshape(-1, 3)
        row_of = np.arange(len(sizes)).repeat(sizes)
        at = np.arange(len(row_of)) + 2 * row_of
        triples = _triples(np.array(self._words, np.uint64), at)
        begins = np.cumsum(sizes) - sizes
        keys = np.minimum.reduceat(triples, begins)
        whole = np.add.reduceat(triples, begins)
        self._words, self._sizes, self._rows = array("I"), array("q"), array("Q")
        wanted = np.flatnonzero(keys < np.uint64(self._below))
        self.n_left_out += len(keys) - len(wanted)
        if not len(wanted):
            return
        sketch = _smallest(triples, row_of, keys < np.uint64(self._below))
        number, content, chat = (rows[wanted, column] for column in range(3))
        one = _Kept(number, content, keys[wanted], whole[wanted], sizes[wanted], chat.astype(np.int64), sketch)
        self._kept.append(one)
        self._n_kept += len(wanted)
        if self._n_kept > 2 * self._n_most:
            self._trim()

    def _trim(self) -> _Kept | None:
        """Equal rows once, and the rows with the smallest keys, in the order of the data."""
        import numpy as np

        if not self._kept:
            return None
        fields = _Kept.__dataclass_fields__
        kept = _Kept(*(np.concatenate([getattr(one, name) for one in self._kept]) for name in fields))
        kept = kept.take(np.unique(kept.content, return_index=True)[1])
        if len(kept.key) > self._n_most:
            order = np.lexsort((kept.content, kept.key))[: self._n_most]
            self.n_left_out += len(kept.key) - len(order)
            self._below = int(kept.key[order[-1]]) + 1
            kept = kept.take(order)
        kept = kept.take(np.argsort(kept.number))
        self._kept, self._n_kept = [kept], len(kept.number)
        return kept

    def later_copies(self) -> tuple[list[int], int]:
        """The numbers of the rows that nearly repeat an earlier one, in order; and how many rows were compared."""
        import numpy as np

        self._flush()
        kept = self._trim()
        if kept is None:
            return [], 0
        pairs = np.concatenate([_of_one(kept.whole), _alike(kept)])
        return kept.number[_not_first(pairs, len(kept.number))].tolist(), len(kept.number)


def _triples(words: Numbers, at: Ints) -> Numbers:
    """The hashes of the words at these places, each with the two after it."""
    import numpy as np

    made = words[at] * np.uint64(0x9E3779B97F4A7C15) + words[at + 1] * np.uint64(0xC2B2AE3D27D4EB4F)
    made += words[at + 2] * np.uint64(0x165667B19E3779F9)
    made ^= made >> np.uint64(32)
    made *= np.uint64(0xD6E8FEB86659FD93)
    made ^= made >> np.uint64(29)
    return np.minimum(made, np.uint64(NONE - 1))


def _smallest(triples: Numbers, row_of: Ints, wanted: Any) -> Numbers:
    """The smallest differing hashes of each wanted row (N, WIDTH), in order; NONE beyond its last.

    One sort of one number does it: the row in the upper bits, as much of the hash as there is room for in the lower.
    """
    import numpy as np

    inside = wanted[row_of]
    row_of = (np.cumsum(wanted) - 1)[row_of[inside]]
    both = row_of.astype(np.uint64) << np.uint64(HASH_BITS) | triples[inside] >> np.uint64(64 - HASH_BITS)
    both.sort()  # np.unique is many times slower
    both = both[np.r_[True, both[1:] != both[:-1]]]
    row_of = (both >> np.uint64(HASH_BITS)).astype(np.int64)
    n = np.bincount(row_of)
    rank = np.arange(len(both)) - (np.cumsum(n) - n)[row_of]
    is_small = rank < WIDTH
    made = np.full((len(n), WIDTH), NONE, np.uint64)
    made[row_of[is_small], rank[is_small]] = both[is_small] & np.uint64(2**HASH_BITS - 1)
    return made


def _of_one(keys: Numbers) -> Ints:
    """(earlier, later) for all that have one key (P, 2)."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    return np.stack([order[:-1][same], order[1:][same]], 1)


def _alike(kept: _Kept) -> Ints:
    """The pairs of rows (P, 2) whose triples are nearly the same, those of templates apart."""
    import numpy as np

    n_rows = len(kept.number)
    limit = kept.sketch[:, -1]  # NONE where the sketch holds all triples
    sketch = _without_templates(kept.sketch)
    n_left = (sketch != NONE).sum(1)
    who, rank = np.nonzero((sketch[:, :N_KEYS] != NONE) & (n_left >= FEWEST)[:, None])
    order = np.lexsort((who, sketch[who, rank]))
    who, keys = who[order], sketch[who, rank][order]
    if not len(keys):
        return np.zeros((0, 2), np.int64)
    begins = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    firsts = who[begins].repeat(np.diff(np.r_[begins, len(keys)]))
    before = np.r_[who[:1], who[:-1]]
    is_later = np.r_[False, keys[1:] == keys[:-1]]
    codes = np.unique(np.concatenate([one[is_later] * n_rows + who[is_later] for one in (firsts, before)]))
    pairs = np.stack([codes // n_rows, codes % n_rows], 1)
    parts = [pairs[at : at + N_PAIRS] for at in range(0, len(pairs), N_PAIRS)]
    good = [part[_are_near(part, sketch, limit, kept)] for part in parts]
    return np.concatenate(good) if good else pairs


def _without_templates(sketch: Numbers) -> Numbers:
    """The sketches without what stands in many of them, in order again."""
    import numpy as np

    values, counts = np.unique(sketch, return_counts=True)
    often = values[(counts > max(N_TEMPLATE, TEMPLATE * len(sketch))) & (values != NONE)]
    return np.sort(np.where(np.isin(sketch, often), np.uint64(NONE), sketch), 1) if len(often) else sketch


def _are_near(pairs: Ints, sketch: Numbers, limit: Numbers, kept: _Kept) -> Any:
    """Whether the two rows of each pair are nearly equal; what lies beyond the end of one sketch counts in neither."""
    import numpy as np

    one, other = pairs.T
    most = np.minimum(limit[one], limit[other])[:, None]
    both = np.concatenate([sketch[one], sketch[other]], 1)
    both[both > most] = NONE
    n_all = (both != NONE).sum(1)
    both.sort(1)
    n_both = ((both[:, 1:] == both[:, :-1]) & (both[:, 1:] != NONE)).sum(1)
    alike = n_both / np.maximum(n_all - n_both, 1)
    n_changed = (1 - alike) / (1 + alike) * (kept.size[one] + kept.size[other])
    is_long_text = (kept.chat[one] == 0) & (kept.chat[other] == 0)
    return (alike >= ALIKE) & (is_long_text | (n_changed <= N_CHANGED))


def _not_first(pairs: Ints, n: int) -> Ints:
    """Of all that hang together by pairs, each but the first, in order."""
    import numpy as np

    first = list(range(n))
    for one, other in pairs.tolist():
        a, b = _root(first, one), _root(first, other)
        first[max(a, b)] = min(a, b)
    return np.array([at for at in range(n) if first[at] != at], np.int64)


def _root(first: list[int], at: int) -> int:
    while first[at] != at:
        first[at] = first[first[at]]
        at = first[at]
    return at
