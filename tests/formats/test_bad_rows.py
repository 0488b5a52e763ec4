from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunesmith.formats._reading import read

ROWS = Path(__file__).parents[1] / "rows"
EXPECTED = json.loads((ROWS / "expected.json").read_text(encoding="utf-8"))


def test_every_bad_file_has_its_expectation() -> None:
    assert {path.name for path in ROWS.iterdir()} - {"expected.json"} == set(EXPECTED)
    assert len(EXPECTED) >= 150


@pytest.mark.parametrize("name", EXPECTED)
def test_a_bad_file_gives_all_its_faults_with_line_key_and_cure(name: str) -> None:
    reading = read(str(ROWS / name))
    assert [[one.code, one.line, one.key] for one in reading.faults] == EXPECTED[name]
    for fault in reading.faults:
        assert fault.file == str(ROWS / name)
        assert fault.fix
        assert len(fault.what) < 300
