from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.cli.changes import Changes
from tunesmith.cli.out import Out

if TYPE_CHECKING:
    from rich.console import Console

    from tunesmith.verbs.run import Ran


def run(recipe: Path, /, *, set_: Changes = (), into: Path | None = None, fresh: bool = False) -> Out:
    """A recipe from data to checked exports; finished stages are not done again.

    Plans, tunes, exports, checks; and proves, where the recipe has prove: true. After Ctrl-C or a crash, the same
    command goes on where it stopped. The exit code is 1 when any check says no, or the proof does not say to ship.

    Args:
        recipe: The recipe's file.
        set_: Change a value of the recipe, as KEY=VALUE; may be repeated.
        into: The folder of the run; for voice.yaml it is runs/voice when left out.
        fresh: Begin again, even if the folder holds a run.

    Example:
        $ tunesmith run tiny.yaml --into runs/tiny
        stage              time
        tune         kept  18 s
        export gguf  kept  0.0 s
        check        done  2.1 min

        export  variant  size      kind       path
        gguf    f16      207.9 kB  exact      runs/tiny/exports/gguf/model-f16.gguf
        gguf    q8_0     115.8 kB  quantised  runs/tiny/exports/gguf/model-q8_0.gguf

                                                              same
        runtime    export  variant  same prompt  same tokens  probabilities   same answer  stops
        llama_cpp  gguf    f16      yes 8 of 8   yes 8 of 8   yes 0.00014     yes 8 of 8   cannot tell
        llama_cpp  gguf    q8_0     yes 8 of 8   yes 8 of 8   yes 0           yes 1        cannot tell
        cannot tell: llama_cpp f16, llama_cpp q8_0: the model itself does not end within 64 tokens

        run  runs/tiny
    """
    from tunesmith.recipe import Recipe
    from tunesmith.verbs.run import run as go

    ran = go(Recipe.read(recipe, set_), into=into, fresh=fresh)
    return Out(ran.as_json(), lambda to: paint(ran, to), 0 if ran.ok else 1)


def paint(ran: "Ran", to: "Console") -> None:
    """The stages with their time, what was written, and the parity table."""
    from rich.table import Table
    from rich.text import Text

    from tunesmith.cli import check, export, prove
    from tunesmith.cli.words import duration

    tree = ran.as_json()
    stages = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in ("stage", "", "time"):
        stages.add_column(head)
    for stage in tree["stages"]:
        mark = Text(stage["state"], "green" if stage["state"] == "done" else "cyan")
        stages.add_row(Text(stage["stage"], "bold"), mark, duration(stage["seconds"]))
    to.print(stages)
    to.print()
    if tree["exports"]:
        export.paint(tree["exports"], to)
        to.print()
    if ran.checked is not None:
        check.paint(ran.checked.findings, to)
        to.print()
    if ran.proof is not None:
        prove.paint(ran.proof, to)
        to.print()
    to.print(Text.assemble("run  ", (str(ran.run.folder), "bold")), soft_wrap=True)
