"""A process of its own that holds llama.cpp's server: run by `llama_cpp.py`, never imported.

What it needs comes as one JSON argument, its address goes to stdout as one JSON line, llama.cpp's talk to stderr. It
ends when stdin is closed, so it never outlives the process that asked.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any


def parameters(asked: dict[str, Any]) -> Any:
    """Settings that leave the model's numbers alone: float32 cache, no flash attention, nothing kept between asks."""
    import xllamacpp

    made = xllamacpp.CommonParams()
    made.model.path = asked["model"]
    made.n_ctx = asked["n_context"]
    made.n_parallel = 1
    made.n_gpu_layers = 0
    # Its threads wait by spinning: with more of them than idle cores it is ten times slower than with one.
    made.cpuparams.n_threads = made.cpuparams_batch.n_threads = max(1, asked["n_cores"] // 2)
    made.warmup = False
    made.cache_prompt = False
    made.cache_ram_mib = 0
    made.cache_type_k = xllamacpp.ggml_type.GGML_TYPE_F32
    made.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    made.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    made.use_jinja = True
    made.fit_params = False
    made.port = 0
    made.hostnames = ["127.0.0.1"]
    made.api_keys = [asked["key"]]
    made.ui = False
    made.offline = True
    return made


def serve() -> None:
    """Load, say where, and wait for the end."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # llama.cpp writes to both; stdout is ours
    asked = json.loads(sys.argv[1])
    import xllamacpp

    server = xllamacpp.Server(parameters(asked))
    told.write(json.dumps({"address": server.listening_address}) + "\n")
    told.flush()
    sys.stdin.buffer.read()
    os._exit(0)  # nothing to save; tearing threads down takes longer than ending


if __name__ == "__main__":
    serve()
