from __future__ import annotations

from pathlib import Path

import pytest

from tunesmith.formats._reading import read

DATA = Path(__file__).parents[3] / "shared" / "data"
N_ROWS = {
    "banking77-train.jsonl": 2000,
    "banking77-test.jsonl": 400,
    "snips-train.jsonl": 2100,
    "snips-test.jsonl": 350,
    "gsm8k-train.jsonl": 2000,
    "gsm8k-test.jsonl": 300,
    "shakespeare.txt": 1,
}


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data is not beside this checkout (../shared/data)")
@pytest.mark.parametrize("name", N_ROWS)
def test_every_row_of_real_data_is_usable(name: str) -> None:
    reading = read(str(DATA / name))
    assert not reading.faults
    assert len(reading.examples) == reading.n_rows == N_ROWS[name]
