from typing import TYPE_CHECKING

from tunesmith.cli.out import Out

if TYPE_CHECKING:
    from rich.console import Console

    from tunesmith.verbs.doctor import Health


def doctor() -> Out:
    """What this machine has and lacks.

    Each missing thing stands with the command that gets it. Nothing is changed. The exit code is 1 when tuning cannot
    work here; what only some exports or runtimes need may lack.

    Example:
        $ tunesmith doctor
             what                   found                             how to get it
             machine
        yes    python               3.11.7 (/opt/voice/bin/python)
        yes    system               Linux 6.12.0, x86_64
        yes    cores                2
        yes    memory               23.5 GiB
        yes    disk                 64.9 GiB free here
        yes    gpu                  none; the CPU is used
             core
        yes    accelerate           1.15.0
        ...
    """
    from tunesmith.verbs.doctor import doctor as look

    health = look()
    return Out(health.as_json(), lambda to: _paint(health, to), 0 if health.ok else 1)


def _paint(health: "Health", to: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in ("", "what", "found", "how to get it"):
        table.add_column(head)
    group = ""
    for part in health.parts:
        if part.group != group:
            group = part.group
            table.add_row("", Text(group, "bold"), "", "")
        mark = Text("yes", "green") if part.here else Text("no", "red")
        use = f"  (for: {part.needed_for})" if part.needed_for and not part.here else ""
        table.add_row(mark, f"  {part.name}", part.found, "" if part.here else part.get + use)
    to.print(table)
