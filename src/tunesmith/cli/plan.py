from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tunesmith.cli.changes import Changes
from tunesmith.cli.out import Out

if TYPE_CHECKING:
    from rich.console import Console


def plan(
    recipe: Path,
    /,
    *,
    set_: Changes = (),
    into: Path | None = None,
    probe: Annotated[bool, Parameter(negative="--no-probe")] = True,
    price_per_hour: str | None = None,
) -> Out:
    """What a recipe would take, and every reason why it would not work, before anything is loaded.

    Tokens, steps, memory, disk and time; each value that was chosen, with why. The time is told from a few real steps
    of a few layers, measured here in some seconds and kept for the next plan. The exit code is 2 when anything is
    refused.

    Args:
        recipe: The recipe's file.
        set_: Change a value of the recipe, as KEY=VALUE; may be repeated.
        into: The folder of the run; for voice.yaml it is runs/voice when left out.
        probe: Measure how fast this machine is at it; without, the time is an estimate.
        price_per_hour: What an hour of this machine costs, such as 1.20 or "1.20 EUR", for the price of the tuning.

    Example:
        $ tunesmith plan tiny.yaml --no-probe
        plan                 value              why
        steps                20                 200 rows x 1 epochs
        tokens               24,722
        time                 0.1 s              0.0 TFLOP at 70% of the measured 357 GFLOP/s, 1 GB at
                                                11 GB/s; an estimate
        memory               1.47 GB
        disk                 20.9 MB
        max_length           180                the longest of 200 rows; none is over the model's 512
        device               cpu                2 CPU cores, no GPU found
        dtype                bfloat16           measured here: float32 173, float32-onednn 192,
                                                bfloat16 392 GFLOP/s
        step                 10 rows            200 rows of 124 tokens: 20 steps an epoch
        ...
    """
    from tunesmith.recipe import Recipe
    from tunesmith.verbs.plan import plan as make

    planned = make(Recipe.read(recipe, set_), into=into, probe=probe, price_per_hour=price_per_hour)
    tree = planned.as_json()
    return Out(tree, lambda to: paint(tree, to), 2 if planned.refusals else 0)


def paint(tree: dict[str, Any], to: "Console") -> None:
    """The plan as a table: sums first, then what was chosen and why, then what is refused."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in ("plan", "value", "why"):
        table.add_column(head)
    whys = {chosen["name"]: str(chosen["why"]) for chosen in tree["values"]}
    for key, name, value in sums(tree):
        table.add_row(Text(name, "bold"), Text(value, "bold"), Text(whys.get(key, ""), "dim"))
    summed = {key for key, _, _ in sums(tree)}
    for chosen in tree["values"]:
        if chosen["name"] in summed:
            continue
        table.add_row(chosen["name"], _short(chosen["value"]), Text(str(chosen["why"]), "dim"))
    for name, value, why in moves(tree):
        table.add_row(Text(name), value, Text(why, "dim"))
    for name, delivery in tree.get("delivers", {}).items():
        style = "green" if delivery["kind"] == "exact" else "yellow"
        table.add_row(f"reaches {name}", Text(delivery["kind"], style), Text(delivery["how"], "dim"))
    to.print(table)
    for gap in tree.get("gaps", []):
        to.print()
        to.print(Text(f"note: {gap['what']}", "yellow"))
        to.print(Text(f"  get  {gap['get']}"))
    for refusal in tree["refusals"]:
        to.print()
        to.print(Text(f"refused[{refusal['code']}]: {refusal['what']}", "red"))
        to.print(f"  at   {refusal['at']}\n  fix  {refusal['fix']}" if refusal["at"] else f"  fix  {refusal['fix']}")


def sums(tree: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Steps, tokens, time, memory and disk: the key, and name and value in words."""
    from tunesmith.cli.words import duration, size

    found = []
    for key, name, word in (
        ("steps", "steps", lambda value: f"{value:,}"),
        ("tokens", "tokens", lambda value: f"{value:,}"),
        ("seconds", "time", duration),
        ("memory_bytes", "memory", size),
        ("disk_bytes", "disk", size),
    ):
        if tree.get(key) is not None:
            found.append((key, name, word(tree[key])))
    if tree.get("price"):
        found.append(("price", "price", f"{tree['price']['total']:.2f} {tree['price']['currency']}".rstrip()))
    return found


def moves(tree: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Weights that will move: the sum beside the base's, and of what it is made up. Name, value and why, in words."""
    parts: dict[str, int] = tree.get("moves", {})
    if not parts:
        return []
    total, base = sum(parts.values()), tree["parameters"]
    first = ("moves", f"{total:,}", f"{100 * total / base:.3g}% of the base's {base:,} weights")
    return [first, *((f"  {part}", f"{count:,}", "") for part, count in parts.items())]


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
