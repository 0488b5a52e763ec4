"""Bytes of a file as they are unpacked, a line at a time, and what is wrong with them as text."""

from __future__ import annotations

import codecs
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tunesmith.errors import DataError, Fault
from tunesmith.text.row import MOST, MOST_BYTES

GET = "pip install 'tunesmith[data]'"
CHUNK = 1 << 16
MARKS = (  # the longer first: that of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


class Bytes(Protocol):
    """A file that is read forwards."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; none at the end."""

    def readline(self, size: int = -1, /) -> bytes:
        """A line with its end, or its first `size` bytes; none at the end."""


@contextmanager
def opened(path: Path, packed: str) -> Iterator[Bytes]:
    """The bytes of a file, unpacked on the way.

    Raises:
        OSError: it cannot be read.
        DataError: `data/damaged`, where it is not packed as its ending says or ends too early; `data/no-zstd`.
    """
    try:
        if packed == ".gz":
            import gzip

            with gzip.open(path, "rb") as file:
                yield file
        elif packed == ".zst":
            with _zstd(path).open(path, "rb") as file:
                yield file
        else:
            with path.open("rb") as file:
                yield file
    except (EOFError, zlib.error) as error:
        raise DataError(_damaged(path, error)) from None
    except OSError as error:
        if packed and error.errno is None:  # gzip says of bad bytes what the system says of bad disks
            raise DataError(_damaged(path, error)) from None
        raise
    except Exception as error:
        if type(error).__name__ != "ZstdError":  # its module has one name of three, by the version of Python
            raise
        raise DataError(_damaged(path, error)) from None


def _zstd(path: Path) -> Any:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError:
        fix = f"{GET}, or unpack it: zstd -d {path.name}"
        raise DataError(Fault("data/no-zstd", "nothing here unpacks .zst", fix=fix, file=str(path))) from None
    return zstd


def _damaged(path: Path, error: Exception) -> Fault:
    what = f"it cannot be unpacked: {error}"
    return Fault("data/damaged", what, fix="fetch or pack it anew; it may have been cut off", file=str(path))


class Line(NamedTuple):
    """A line without a byte order mark before it: its number (from 1), where it starts in bytes, and its bytes."""

    number: int
    start: int
    raw: bytes
    n_bytes: int
    """Its length; `raw` is empty where that is more than a line may have."""

    @property
    def is_too_long(self) -> bool:
        """Whether it is passed over for its length."""
        return self.n_bytes > MOST_BYTES


def lines(file: Bytes) -> Iterator[Line]:
    """The lines, each in memory alone."""
    at, number = 0, 0
    while raw := file.readline(MOST_BYTES + 1):
        number += 1
        start, at = at, at + len(raw)
        if number == 1 and raw.startswith(codecs.BOM_UTF8):
            raw, start = raw[len(codecs.BOM_UTF8) :], len(codecs.BOM_UTF8)
        if len(raw) > MOST_BYTES and not raw.endswith(b"\n"):
            n_bytes = len(raw)
            raw = b""
            while rest := file.readline(CHUNK):
                at, n_bytes = at + len(rest), n_bytes + len(rest)
                if rest.endswith(b"\n"):
                    break
            yield Line(number, start, raw, n_bytes)
        else:
            yield Line(number, start, raw, len(raw))


def too_long(file: str, line: int, n_bytes: int, what: str = "this line") -> Fault:
    """What is said of more than fits."""
    what = f"{what} has {n_bytes / 2**20:,.1f} MiB, and may have {MOST}"
    return Fault("data/line-too-long", what, fix="shorten it, or remove it", file=file, line=line)


def other_encoding(head: bytes, file: str) -> Fault | None:
    """The fault of a file that begins with the mark of another encoding; `head`: its first four bytes."""
    name = next((name for mark, name in MARKS if head.startswith(mark)), "")
    if not name:
        return None
    fix = f"save it as UTF-8: iconv -f {name} -t UTF-8 OLD > NEW"
    return Fault("data/not-utf8", f"the file is {name}", fix=fix, file=file, line=1)


def decode(raw: bytes, file: str, line: int, start: int) -> str | Fault:
    """The text of `raw`, which begins `start` bytes into the file, at `line`."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return not_utf8(raw, error.start, file, line, start)
    at = raw.find(b"\0")
    return text if at < 0 else nul(raw, at, file, line, start)


def not_utf8(raw: bytes, at: int, file: str, line: int, start: int) -> Fault:
    """The fault of the byte `at` in `raw`."""
    what = f"byte {start + at} (0x{raw[at]:02x}) is not UTF-8"
    fix = "save the file as UTF-8, or mend this line"
    return Fault("data/not-utf8", what, fix=fix, file=file, line=line + raw.count(b"\n", 0, at))


def nul(raw: bytes, at: int, file: str, line: int, start: int) -> Fault:
    """The fault of a NUL: text has none, and UTF-16 without a mark has one in every second place."""
    what = f"byte {start + at} is NUL, which is in no text"
    fix = "if the file is UTF-16: iconv -f UTF-16LE -t UTF-8 OLD > NEW; else remove it: tr -d '\\0' < OLD > NEW"
    return Fault("data/nul-byte", what, fix=fix, file=file, line=line + raw.count(b"\n", 0, at))
