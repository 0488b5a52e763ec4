"""Parquet and Arrow files to rows, a batch in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunesmith.errors import DataError, Fault
from tunesmith.text.row import Row
from tunesmith.text.row_bytes import GET

N_BATCH = 256
ARROW_FILE = b"ARROW1"  # what an Arrow file begins with; what lacks it is a stream, as `datasets` writes it


def rows(path: Path, kind: str) -> Iterator[Row | Fault]:
    """The rows; `line` is the row's number. Nulls inside are left out, where a column has a place for each key.

    Raises:
        OSError: it cannot be read.
        DataError: `data/no-pyarrow`.
    """
    try:
        import pyarrow as arrow
    except ImportError:
        fix = f"{GET}, or write the rows as JSON lines"
        raise DataError(Fault("data/no-pyarrow", f"nothing here reads {kind}", fix=fix, file=str(path))) from None
    number = 0
    try:
        for batch in _parquet(path) if kind == ".parquet" else _arrow(path):
            for value in batch.to_pylist():
                number += 1
                yield Row(str(path), number, {str(key): _plain(one) for key, one in value.items() if one is not None})
    except FileNotFoundError:
        raise
    except (arrow.ArrowException, ValueError, OverflowError, OSError) as error:
        said = " ".join(str(error).split())[:160]
        what = f"after row {number} it cannot be read as {kind[1:]}: {said}"
        yield Fault("data/damaged", what, fix="fetch or write it anew; it may have been cut off", file=str(path))


def _parquet(path: Path) -> Iterator[Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(path, pre_buffer=False) as file:
        yield from file.iter_batches(batch_size=N_BATCH, use_threads=False)


def _arrow(path: Path) -> Iterator[Any]:
    from pyarrow import OSFile, ipc

    with path.open("rb") as file:
        is_file = file.read(len(ARROW_FILE)) == ARROW_FILE
    with OSFile(str(path)) as source:
        if is_file:
            reader = ipc.open_file(source)
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            batches = iter(ipc.open_stream(source))
        for batch in batches:
            yield from (batch.slice(start, N_BATCH) for start in range(0, batch.num_rows, N_BATCH))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value
