"""What lies round the ONNX files: config, tokenizer and template as Transformers.js reads them, and the page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith import files
from tunesmith.errors import ExportError, Fault
from tunesmith.text.template import Text
from tunesmith.web import packages
from tunesmith.weights.facts import BaseFacts

PAGE = (
    "README.md",
    "index.html",
    "page.js",
    "page.css",
    "file.js",
    "worker.js",
    "device.js",
    "generate.js",
    "_headers",
    "answer.mjs",
    "package.json",
    "package-lock.json",
)
LIBRARY = "@huggingface/transformers/dist/transformers.min.js"
# Transformers.js takes the first, which may use a GPU, but for a Safari that has none.
RUNTIME = tuple(f"ort-wasm-simd-threaded{build}.{kind}" for build in (".asyncify", "") for kind in ("mjs", "wasm"))
PAGE_BYTES = 45_000_000
TOKENS_OF_SETTINGS = ("bos_token_id", "eos_token_id", "pad_token_id", "suppress_tokens", "begin_suppress_tokens")


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
    files.write_json(into / "generation_config.json", _generation(model))


def _generation(model: Path) -> dict[str, Any]:
    """Which tokens end an answer, and which never come: the checks ask for the likeliest tokens, without a penalty."""
    settings = _read(model / "generation_config.json")
    kept = {key: value for key, value in settings.items() if key in TOKENS_OF_SETTINGS}
    end_ids = sorted(Text.read(model).end_ids)
    return {**kept, "eos_token_id": end_ids} if end_ids else kept


def put_config(model: Path, into: Path, data_files: Mapping[str, int], dtypes: Sequence[str], wasm: str) -> None:
    """config.json with what Transformers.js needs to know: the data files of each graph, and which dtype to take."""
    config = _read(model / "config.json")
    settings: dict[str, Any] = {"dtype": dtypes[0], "device_config": {"wasm": {"dtype": wasm}}}
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
    shutil.copyfile(modules / "@huggingface/transformers/LICENSE", vendor / "transformers.LICENSE")
    name = "onnxruntime-web.LICENSE"  # its npm package holds none
    shutil.copyfile(packages.HERE / "licences" / name, vendor / name)
    files.write_json(into / "page.json", about)


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
