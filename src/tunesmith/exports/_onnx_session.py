"""ONNX Runtime on the graphs of the web export: a session, and what it says after some tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def session(path: Path) -> Any:
    """An ONNX Runtime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session: Any, ids: Sequence[int], past: Mapping[str, Any] | None = None, keep: int = 1) -> dict[str, Any]:
    """Logits (1, keep, V) and the cache after some new tokens; `past` is what an earlier call gave."""
    import numpy as np

    feeds = {name: one for name, one in (past or empty_cache(session)).items()}
    before = next(iter(feeds.values())).shape[2]
    feeds["input_ids"] = np.array([ids], dtype=np.int64)
    feeds["attention_mask"] = np.ones((1, before + len(ids)), dtype=np.int64)
    feeds["position_ids"] = np.arange(before, before + len(ids), dtype=np.int64)[None]
    feeds["num_logits_to_keep"] = np.array(keep, dtype=np.int64)
    wanted = {one.name for one in session.get_inputs()}
    names = [one.name for one in session.get_outputs()]
    out = session.run(None, {name: value for name, value in feeds.items() if name in wanted})
    return {name.replace("present.", "past_key_values."): value for name, value in zip(names, out, strict=True)}


def empty_cache(session: Any) -> dict[str, Any]:
    """Keys and values of no token."""
    import numpy as np

    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    return {
        one.name: np.zeros((1, one.shape[1], 0, one.shape[3]), dtype=kinds[one.type])
        for one in session.get_inputs()
        if one.name.startswith("past_key_values.")
    }
