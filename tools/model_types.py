"""Writes src/tunesmith/web/model_types.json: the architectures that the pinned Transformers.js can generate text with.

    python tools/model_types.py

Run it after the version in src/tunesmith/web/package.json was changed and `npm ci --ignore-scripts` was run there.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

WEB = Path(__file__).resolve().parent.parent / "src" / "tunesmith" / "web"


def model_types(modules: Path) -> list[str]:
    """The keys of the registry's table of models for causal language modelling, sorted."""
    registry = (modules / "@huggingface/transformers/src/models/registry.js").read_text(encoding="utf-8")
    table = registry.split("export const MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = new Map([", 1)[1].split("]);", 1)[0]
    return sorted(set(re.findall(r"\[\s*'([\w-]+)',", table)))


if __name__ == "__main__":
    found = model_types(WEB / "node_modules")
    (WEB / "model_types.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"{len(found)} architectures", file=sys.stderr)
