from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.cli.changes import Names
from tunesmith.cli.out import Out

if TYPE_CHECKING:
    from rich.console import Console


def export(what: Path, /, *, to: Names = (), into: Path | None = None, base: str | None = None) -> Out:
    """A tuned model in the forms that runtimes want.

    Args:
        what: A run, a Hugging Face model folder, or a PEFT adapter folder.
        to: The forms, with commas between them: safetensors, gguf, ollama, web; those of a run's recipe when left out.
        into: The folder for what someone else trained; runs/NAME when left out.
        base: The model that an adapter was trained on, where it does not say so itself.

    Example:
        $ tunesmith export runs/tiny --to gguf
        export  variant  size      kind       path
        gguf    f16      207.9 kB  exact      runs/tiny/exports/gguf/model-f16.gguf
        gguf    q8_0     115.8 kB  quantised  runs/tiny/exports/gguf/model-q8_0.gguf
    """
    from tunesmith.artifact import Run
    from tunesmith.verbs._subject import subject_of
    from tunesmith.verbs.export import make
    from tunesmith.verbs.run import Ran, stages_of

    subject = subject_of(what, base=base, into=into)
    made = make(subject, to)
    exports = {kind: one.export for kind, one in made.items()}
    tree = Ran(Run(subject.folder), stages_of(made), exports, None).as_json()
    return Out(tree, lambda console: paint(tree["exports"], console))


def paint(exports: dict[str, Any], to: "Console") -> None:
    """What was written, a variant a line."""
    from rich.table import Table
    from rich.text import Text

    from tunesmith.cli.words import size

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in ("export", "variant", "size", "kind", "path"):
        table.add_column(head, overflow="fold")
    for name, one in exports.items():
        for variant, about in one["variants"].items():
            table.add_row(Text(name, "bold"), variant, size(about["bytes"]), about["label"], about["path"])
    to.print(table)
