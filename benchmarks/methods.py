"""Every tuning method on one data set with one budget: `python benchmarks/methods.py TRAIN.jsonl TEST.jsonl`.

Each way tunes in a process of its own with the method's defaults, over the same rows in the same order, and then
answers the test rows greedily. What was measured is kept in `results/methods.json`, a way at a time:
`--only "lora;prompt"` does some of them, and what is there stays. `--pace` takes the first steps of each anew, for the
seconds of a step where other work stood beside them. `--table` writes docs/compared.md from it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import machine

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("results") / "methods.json"
PAGE = ROOT / "docs" / "compared.md"
BASE = "bundle:smollm2-135m-instruct"
ASK = "Turn the sentence into JSON with its intent and its slots."
ROWS, PACE = 16, 12  # rows a step that a plan chooses here, and steps whose seconds are told
WAYS: Mapping[str, Mapping[str, Any]] = {
    "full": {"kind": "full"},
    "freeze": {"kind": "freeze"},
    "lora": {"kind": "lora"},
    "lora, rslora": {"kind": "lora", "variant": "rslora"},
    "lora, dora": {"kind": "lora", "variant": "dora"},
    "lora, pissa": {"kind": "lora", "variant": "pissa"},
    "lora+": {"kind": "lora", "b_rate": 16},
    "qlora": {"kind": "qlora"},
    "adapter, parallel": {"kind": "adapter"},
    "adapter, houlsby": {"kind": "adapter", "form": "houlsby"},
    "adapter, pfeiffer": {"kind": "adapter", "form": "pfeiffer"},
    "prompt": {"kind": "prompt", "text": ASK},
    "prompt, 100 tokens": {"kind": "prompt", "text": ASK, "length": 100},
    "ptuning": {"kind": "ptuning", "text": ASK},
    "ptuning, lstm": {"kind": "ptuning", "text": ASK, "encoder": "lstm"},
    "prefix": {"kind": "prefix", "text": ASK},
    "prefix, projection": {"kind": "prefix", "text": ASK, "projection": True},
}


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("train", type=Path, nargs="?")
    words.add_argument("test", type=Path, nargs="?")
    words.add_argument("--only", default="", help="some of: " + "; ".join(WAYS))
    words.add_argument("--epochs", type=float, default=1)
    words.add_argument("--into", type=Path, default=Path("runs/methods"))
    words.add_argument("--pace", action="store_true")
    words.add_argument("--table", action="store_true")
    words.add_argument("--way", help=argparse.SUPPRESS)
    asked = words.parse_args()
    if asked.table:
        PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
    elif asked.way:
        tune(asked)
    else:
        known = list(json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]) if asked.pace else list(WAYS)
        for way in [one.strip() for one in asked.only.split(";") if one.strip()] or known:
            (pace if asked.pace else measure)(way, asked)


def tune(asked: argparse.Namespace) -> None:
    """The child: one way, from the recipe to the model at rest and its GGUF where that is exact."""
    from tunesmith.recipe import Recipe
    from tunesmith.verbs.export import export
    from tunesmith.verbs.tune import tune as run

    tree = {"base": BASE, "data": {"train": str(asked.train), "test": str(asked.test)}, "method": WAYS[asked.way]}
    recipe = Recipe.model_validate({**tree, "run": {"epochs": asked.epochs, "seed": 1}})
    made = run(recipe, into=home(asked))
    method: Any = recipe.method
    if method.delivers(None)["gguf"].kind == "exact" and WAYS[asked.way].get("form", "parallel") == "parallel":
        export(made, to=[gguf()])


def gguf() -> Any:
    from tunesmith.exports.gguf import Gguf

    return Gguf(types=("q8_0",))


def home(asked: argparse.Namespace) -> Path:
    folder: Path = asked.into / asked.way.replace(", ", "-").replace(" ", "-").replace("+", "-plus")
    return folder


def measure(way: str, asked: argparse.Namespace) -> None:
    """The parent: peak memory of the child, its losses, and how many of its answers are right."""
    asked.way = way
    usage = run_child(asked)
    keep(way, {**told(home(asked)), "peak_bytes": usage.ru_maxrss * 1024, **score(home(asked), asked.test)}, asked)


def run_child(asked: argparse.Namespace) -> resource.struct_rusage:
    """Tune one way in a process of its own; what that took."""
    command = [sys.executable, __file__, str(asked.train), str(asked.test), "--way", asked.way]
    command += ["--epochs", str(asked.epochs), "--into", str(asked.into)]
    shutil.rmtree(home(asked), ignore_errors=True)
    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{asked.way}: its run failed")
    return usage


def pace(way: str, asked: argparse.Namespace) -> None:
    """The median seconds of the first steps, put in place of those that are kept."""
    n_rows = len(asked.train.read_text(encoding="utf-8").splitlines())
    short = argparse.Namespace(
        **{**vars(asked), "way": way, "epochs": PACE * ROWS / n_rows, "into": asked.into / "pace"}
    )
    run_child(short)
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))
    kept["rows"][way]["seconds_a_step"] = told(home(short))["seconds_a_step"]
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    print(way, kept["rows"][way]["seconds_a_step"], flush=True)


def told(run: Path) -> dict[str, Any]:
    """What the run says of itself."""
    about = json.loads((run / "settled.json").read_text(encoding="utf-8"))["about"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    held = [line["held_out_loss"] for line in lines if "held_out_loss" in line]
    steps = [line["seconds"] for line in lines if "loss" in line]
    adapter, model = run / "adapter", run / "exports/gguf/model-q8_0.gguf"
    return {
        "trainable": about["trainable"],
        "held_out_loss_before": held[0],
        "held_out_loss": held[-1],
        "steps": len(steps),
        "seconds": round(sum(steps), 1),
        "seconds_a_step": sorted(steps)[len(steps) // 2],
        "learning_rate": max(line["learning_rate"] for line in lines if "loss" in line),
        "adapter_bytes": sum(file.stat().st_size for file in adapter.rglob("*") if file.is_file()) or None,
        "gguf_q8_0_bytes": model.stat().st_size if model.is_file() else None,
    }


def score(run: Path, test: Path) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/score.py"), str(run), str(test)], check=True, capture_output=True, text=True
    )
    right, _, n = done.stdout.strip().partition(" of ")
    return {"right": int(right), "asked": int(n)}


def keep(way: str, row: Mapping[str, Any], asked: argparse.Namespace) -> None:
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"rows": {}}
    budget = {"data": asked.train.name, "base": BASE, "epochs": asked.epochs, "seed": 1}
    if kept.get("budget", budget) != budget:
        raise SystemExit(f"{RESULTS} holds rows of another budget: {kept['budget']}")
    packages = machine.versions(("torch", "transformers", "peft", "tunesmith"))
    rows = {**kept["rows"], way: {**row, "method": dict(WAYS[way])}}
    order = [one for one in WAYS if one in rows]
    tree = {
        "budget": budget,
        "machine": machine.processor(),
        "packages": packages,
        "rows": {one: rows[one] for one in order},
    }
    RESULTS.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    print(way, json.dumps(row))


def page(tree: Mapping[str, Any]) -> str:
    """docs/compared.md."""
    budget, rows = tree["budget"], tree["rows"]
    first = next(iter(rows.values()))
    of = tree["packages"]
    head = f"""# The methods side by side

Written by `python benchmarks/methods.py --table` from `benchmarks/results/methods.json`.

{budget["data"]} on {budget["base"]}, {budget["epochs"]:g} epoch: {first["steps"]} steps
of the same rows in the same order, each method with its defaults. {tree["machine"]};
torch {of["torch"]}, transformers {of["transformers"]}, PEFT {of["peft"]}.

Before tuning the held-out loss is {plain_loss(rows):.3f}. Right: greedy answers that are the same JSON as the wanted
one, of {first["asked"]} test rows; the base as it is has none right. Seconds a step: the median. Peak memory: the
whole process, with coming to rest and, where there is one, the GGUF.

| method | right | held-out loss | weights that move | s a step | peak memory | adapter | GGUF q8_0 |
|---|---|---|---|---|---|---|---|
"""
    return head + "".join(line(way, row) for way, row in rows.items())


def plain_loss(rows: Mapping[str, Any]) -> float:
    """Of the base as it is: what a method begins with that changes nothing."""
    return float(next(row["held_out_loss_before"] for way, row in rows.items() if way in ("full", "lora")))


def line(way: str, row: Mapping[str, Any]) -> str:
    cells: Sequence[str] = (
        way,
        f"{row['right']} ({row['right'] / row['asked']:.0%})",
        f"{row['held_out_loss']:.4f}",
        f"{row['trainable']:,}",
        f"{row['seconds_a_step']:.2f}",
        f"{row['peak_bytes'] / 1e9:.2f} GB",
        size(row["adapter_bytes"]),
        size(row["gguf_q8_0_bytes"]),
    )
    return "| " + " | ".join(cells) + " |\n"


def size(n_bytes: int | None) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes else "none"


if __name__ == "__main__":
    main()
