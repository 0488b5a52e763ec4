from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.cli.out import Out

if TYPE_CHECKING:
    from rich.console import Console

    from tunesmith.verbs.demo import Demo


def demo(*, into: Path | None = None, fresh: bool = False) -> Out:
    """The whole chain on built-in data and a small real model: minutes on a laptop.

    Fetches the model, tunes it, writes GGUF, Ollama and web exports, checks each in its own runtime, and shows three
    unseen prompts before and after. A second call does not repeat what is finished.

    Args:
        into: The folder of the run; runs/demo when left out.
        fresh: Begin again, even if the folder holds a run.

    Example:
        $ tunesmith demo
        ...
        Now you can type:
          tunesmith chat runs/demo --runtime llama_cpp
        ...
    """
    from tunesmith.verbs.demo import demo as go

    done = go(into=into, fresh=fresh)
    return Out(done.as_json(), lambda to: _paint(done, to), 0 if done.ran.ok else 1)


def _paint(done: "Demo", to: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    from tunesmith.cli import run

    run.paint(done.ran, to)
    to.print()
    table = Table(box=None, padding=(0, 2, 1, 0), header_style="dim")
    for head in ("unseen prompt", "before tuning", "after tuning"):
        table.add_column(head, overflow="fold", ratio=1)
    for sample in done.samples:
        table.add_row(Text(sample.prompt), Text(_short(sample.before), "dim"), Text(_short(sample.after), "green"))
    to.print(table)
    to.print("Now you can type:")
    for command in done.next_commands:
        to.print(f"  {command}", soft_wrap=True)


def _short(text: str) -> str:
    return text if len(text) <= 240 else text[:240] + "..."
