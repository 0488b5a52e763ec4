"""Tracing looks for patterns of several outputs at fewer nodes than onnxscript does, and finds the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tiny.models import save

SCRIPT = """
import sys
from contextlib import nullcontext
from onnxscript.rewriter._matcher import SimplePatternMatcher
from tunesmith.exports import _onnx_trace
folder, file, way = sys.argv[1:]
n_matches, match = 0, SimplePatternMatcher.match
def counted(self, *given, **options):
    global n_matches
    n_matches += not self.pattern.has_single_output_node
    return match(self, *given, **options)
SimplePatternMatcher.match = counted
if way == "plain":
    _onnx_trace.matched_where_they_end = nullcontext
_onnx_trace.main(folder, file)
print("looked:", n_matches)
"""


def traced(folder: Path, file: Path, way: str) -> tuple[bytes, int]:
    """A graph, and how often the whole of it was gone through for a pattern of several outputs."""
    command = [sys.executable, "-c", SCRIPT, str(folder), str(file), way]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return file.read_bytes(), int(done.stdout.rpartition("looked:")[2])


@pytest.mark.slow
def test_fewer_looks_give_the_same_graph(tmp_path: Path) -> None:
    folder = save(tmp_path / "m", "gemma3_text")
    quick, n_quick = traced(folder, tmp_path / "quick.onnx", "quick")
    plain, n_plain = traced(folder, tmp_path / "plain.onnx", "plain")
    assert quick == plain
    assert 0 < 5 * n_quick < n_plain
