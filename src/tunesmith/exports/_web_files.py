"""What lies round the ONNX files: config, tokenizer and template as Transformers.js reads them, and the page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith import files
from tunesmith.errors import ExportError, Fault
from tunesmith.web import packages
from tunesmith.weights.facts import BaseFacts

PAGE = (
    "README.md",
    "index.html",
    "page.js",
    "page.css",
    "worker.js",
    "answer.mjs",
    "package.json",
    "package-lock.json",
)
LIBRARY = "@huggingface/transformers/dist/transformers.min.js"
RUNTIME = ("ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm")
LICENCES = {
    "transformers.LICENSE": "@huggingface/transformers/LICENSE",
    "onnxruntime-web.LICENSE": "onnxruntime-web/LICENSE",
}
PAGE_BYTES = 30_000_000
SAMPLING = ("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "num_beams", "use_cache")


def put_text(model: Path, into: Path) -> None:
    """Tokenizer and generation settings; the chat template goes into tokenizer_config.json, the one place looked at.

    Raises:
        ExportError: `export/no-fast-tokenizer`, when there is no tokenizer.json.
    """
    if not (model / "tokenizer.json").is_file():
        what = "there is no tokenizer.json, and Transformers.js reads no other tokenizer file"
        fix = "load it with AutoTokenizer in Python and save it again: a fast tokenizer writes tokenizer.json"
        raise ExportError(Fault("export/no-fast-tokenizer", what, fix=fix, file=str(model)))
    into.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model / "tokenizer.json", into / "tokenizer.json")
    settings = _read(model / "tokenizer_config.json")
    template = BaseFacts.read(model).chat_template
    if template is not None:
        settings["chat_template"] = template
    files.write_json(into / "tokenizer_config.json", settings)
    for name in ("special_tokens_map.json", "added_tokens.json"):
        if (model / name).is_file():
            shutil.copyfile(model / name, into / name)
    generation = {key: value for key, value in _read(model / "generation_config.json").items() if key not in SAMPLING}
    files.write_json(into / "generation_config.json", generation)


def put_config(model: Path, into: Path, data_files: Mapping[str, int], dtypes: Sequence[str]) -> None:
    """config.json with what Transformers.js needs to know: the data files of each graph, and which dtype to take."""
    config = _read(model / "config.json")
    settings: dict[str, Any] = {"dtype": dtypes[0]}
    if "q8" in dtypes:
        settings["device_config"] = {"wasm": {"dtype": "q8"}}  # in WebAssembly q4 is several times slower
    chunks = {name: count for name, count in data_files.items() if count}
    if chunks:
        settings["use_external_data_format"] = chunks
    config["transformers.js_config"] = settings
    files.write_json(into / "config.json", config)


def put_page(into: Path, about: Mapping[str, Any]) -> None:
    """The page and the Node script, with Transformers.js and its WebAssembly beside them: nothing is fetched later.

    Raises:
        RuntimeFault: `web/no-packages`, when Transformers.js is not here and npm cannot bring it.
    """
    modules = packages.get()
    for name in PAGE:
        shutil.copyfile(packages.HERE / name, into / name)
    vendor = into / "vendor"
    vendor.mkdir()
    shutil.copyfile(modules / LIBRARY, vendor / "transformers.js")
    for name in RUNTIME:
        shutil.copyfile(modules / "onnxruntime-web/dist" / name, vendor / name)
    for name, source in LICENCES.items():
        if (modules / source).is_file():
            shutil.copyfile(modules / source, vendor / name)
    files.write_json(into / "page.json", about)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
