"""What a plan forecasts against what its run takes: `python benchmarks/forecast.py SNIPS-TRAIN SNIPS-TEST TEXT`.

Four recipes are planned with a probe and then tuned, each in a process of its own, cut by `--epochs` to some minutes in
all. Minutes are those of the tuning (`settled.json`), memory is the peak of the process. Writes
`results/forecast.json`; `--table` writes it into docs/plan.md.
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
from datetime import date
from pathlib import Path
from typing import Any

import machine
import marked

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("results") / "forecast.json"
PAGE = ROOT / "docs" / "plan.md"
BEGIN, END = "<!-- table: python benchmarks/forecast.py --table -->", "<!-- end of table -->"
RECIPES = ("snips-lora", "snips-freeze", "snips-prefix", "text")
PACKAGES = ("torch", "transformers", "peft", "tunesmith")


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("train", nargs="?", help="chats of snips")
    words.add_argument("test", nargs="?", help="the chats that are held out")
    words.add_argument("text", nargs="?", help="a raw text")
    words.add_argument("--only", default="", help="some of: " + ", ".join(RECIPES))
    words.add_argument("--epochs", type=float, default=0.2)
    words.add_argument("--freeze-epochs", type=float, default=1.2, help="of freeze: more than one reads what is kept")
    words.add_argument("--set", action="append", default=[], help="a further change of every recipe, as KEY=VALUE")
    words.add_argument("--into", type=Path, default=Path("runs/forecast"))
    words.add_argument("--results", type=Path, default=RESULTS)
    words.add_argument("--table", action="store_true")
    asked = words.parse_args()
    if asked.table:
        write(json.loads(asked.results.read_text(encoding="utf-8")))
        return
    names = [one.strip() for one in asked.only.split(",") if one.strip()] or RECIPES
    rows = {name: measured(name, asked) for name in names}
    tree = {
        "machine": machine.processor(),
        "date": date.today().isoformat(),
        "packages": machine.versions(PACKAGES),
        "rows": rows,
    }
    asked.results.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    print(table(tree))


def measured(name: str, asked: argparse.Namespace) -> dict[str, Any]:
    """Forecast and run of one recipe."""
    home = asked.into / name
    shutil.rmtree(home, ignore_errors=True)
    changes = settings(name, asked)
    planned = json.loads(said(["plan", *command(name, changes, home), "--json"]))
    estimated = json.loads(said(["plan", *command(name, changes, home), "--json", "--no-probe"]))
    if planned["refusals"]:
        raise SystemExit(f"{name}: {planned['refusals']}")
    usage = run(["tune", *command(name, changes, home)])
    about = json.loads((home / "settled.json").read_text(encoding="utf-8"))["about"]
    return {
        "changes": [one for one in changes if not one.startswith("data.")],
        "steps": planned["steps"],
        "forecast_seconds": planned["seconds"],
        "estimated_seconds": estimated["seconds"],
        "measured_seconds": about["seconds"],
        "forecast_memory_bytes": max(planned["memory_bytes"], planned["host_memory_bytes"]),
        "measured_memory_bytes": usage.ru_maxrss * 1024,
        "probe": planned["probe"],
    }


def settings(name: str, asked: argparse.Namespace) -> list[str]:
    """The changes that make a recipe short, and name its data."""
    epochs = asked.freeze_epochs if name == "snips-freeze" else asked.epochs
    data = [f"data.train={asked.text}"] if name == "text" else [f"data.train={asked.train}", f"data.test={asked.test}"]
    return [*data, f"run.epochs={epochs:g}", "export=[]", *asked.set]


def command(name: str, changes: Sequence[str], home: Path) -> list[str]:
    return [str(ROOT / "recipes" / f"{name}.yaml"), *(f"--set={one}" for one in changes), f"--into={home}"]


def said(words: Sequence[str]) -> str:
    """What `tunesmith` says on stdout."""
    done = subprocess.run([sys.executable, "-m", "tunesmith", *words], stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout


def run(words: Sequence[str]) -> resource.struct_rusage:
    """A process of its own; what it took."""
    child = subprocess.Popen([sys.executable, "-m", "tunesmith", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"tunesmith {' '.join(words)} failed")
    return usage


def write(tree: Mapping[str, Any]) -> None:
    """Put the table between its marks."""
    marked.put(PAGE, BEGIN, END, table(tree))


def table(tree: Mapping[str, Any]) -> str:
    """Minutes and memory, forecast and measured."""
    packages = ", ".join(f"{name} {one}" for name, one in tree["packages"].items() if name != "tunesmith")
    out = f"Measured on: {tree['machine']}, {tree['date']}, {packages}.\n\n"
    out += "| recipe | steps | minutes: forecast | measured | off by | without a probe | memory: bound | measured |\n"
    out += "|---|---|---|---|---|---|---|---|\n"
    for name, row in tree["rows"].items():
        off = row["forecast_seconds"] / row["measured_seconds"] - 1
        cells = (
            name,
            str(row["steps"]),
            f"{row['forecast_seconds'] / 60:.1f}",
            f"{row['measured_seconds'] / 60:.1f}",
            f"{off:+.0%}",
            f"{row['estimated_seconds'] / 60:.1f}",
            f"{row['forecast_memory_bytes'] / 1e9:.1f} GB",
            f"{row['measured_memory_bytes'] / 1e9:.1f} GB",
        )
        out += "| " + " | ".join(cells) + " |\n"
    return out


if __name__ == "__main__":
    main()
