from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.cli.changes import Names
from tunesmith.cli.out import Out

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from tunesmith.checks._contract import Finding


def check(what: Path, /, *, runtime: Names = (), base: str | None = None, into: Path | None = None) -> Out:
    """Whether every runtime gives the answers the model gives in torch.

    One table: a row for each file in each runtime, a column for each check. The exit code is 1 when any check says no.
    What cannot be told here is named with the way to get what is missing.

    Args:
        what: A run, a Hugging Face model folder, or a PEFT adapter folder, that was exported before.
        runtime: Only these, with commas between them; all that belong to the exports when left out.
        base: The model that an adapter was trained on, where it does not say so itself.
        into: The folder that was given to export.

    Example:
        $ tunesmith check runs/tiny
                                                              same
        runtime    export  variant  same prompt  same tokens  probabilities   same answer  stops
        llama_cpp  gguf    f16      yes 8 of 8   yes 8 of 8   yes 0.00014     yes 8 of 8   cannot tell
        llama_cpp  gguf    q8_0     yes 8 of 8   yes 8 of 8   yes 0           yes 1        cannot tell
        cannot tell: llama_cpp f16, llama_cpp q8_0: the model itself does not end within 64 tokens
    """
    from tunesmith.verbs.check import check as look

    checked = look(what, runtimes=runtime or None, base=base, into=into)
    return Out(checked.as_json(), lambda to: paint(checked.findings, to), 0 if checked.ok else 1)


def paint(findings: "Sequence[Finding]", to: "Console") -> None:
    """The parity table, then in words what said no and what could not be told."""
    from rich.table import Table
    from rich.text import Text

    from tunesmith.verbs.check import table

    rows = table(findings)
    checks = list(dict.fromkeys(one.check for one in findings))
    painted = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in ("runtime", "export", "variant", *(name.replace("_", " ") for name in checks)):
        painted.add_column(head)
    for (runtime, export, variant), found in rows.items():
        cells = [_cell(found[name]) if name in found else Text("") for name in checks]
        painted.add_row(Text(runtime, "bold"), export, variant, *cells)
    to.print(painted)
    for verdict, title, style in (("no", "no", "red"), ("cannot_tell", "cannot tell", "yellow")):
        for why, where in _reasons(findings, verdict).items():
            to.print(Text.assemble((f"{title}: ", style), ", ".join(where), f": {why}"), soft_wrap=True)


def _cell(finding: "Finding") -> "Text":
    from rich.text import Text

    if finding.verdict == "cannot_tell":
        return Text("cannot tell", "yellow")
    measured = "" if finding.measured is None else f" {_number(finding.measured)}"
    return Text(f"{finding.verdict}{measured}", "green" if finding.verdict == "yes" else "red")


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.2g}"


def _reasons(findings: "Sequence[Finding]", verdict: str) -> dict[str, list[str]]:
    """Each reason once, with where it was said."""
    found: dict[str, list[str]] = {}
    for one in findings:
        if one.verdict == verdict:
            where = found.setdefault(one.why or f"{one.measured} where {one.bound} is allowed", [])
            place = f"{one.runtime} {one.variant}" + (
                "" if verdict == "cannot_tell" else f" {one.check.replace('_', ' ')}"
            )
            if place not in where:
                where.append(place)
    return found
