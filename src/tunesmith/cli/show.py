from typing import TYPE_CHECKING

from tunesmith.cli.out import Out

if TYPE_CHECKING:
    from rich.console import Console

    from tunesmith.verbs.members import Member


def show(name: str, /) -> Out:
    """One member with its options.

    Args:
        name: The name that a recipe uses, such as lora; where two rooms share one, ROOM/NAME names one alone.

    Example:
        $ tunesmith show lora
    """
    from tunesmith.verbs.members import show as find

    found = find(name)
    tree: dict[str, list[object]] = {}
    for member in found:
        tree.setdefault(member.room, []).append(member.as_json())
    return Out(tree, lambda to: _paint(found, to))


def _paint(found: "tuple[Member, ...]", to: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    for member in found:
        to.print(Text.assemble((f"{member.room}/{member.name}", "bold")))
        to.print(member.text or member.summary)
        if not member.options:
            to.print()
            continue
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for head in ("option", "default", "type", "what it is"):
            table.add_column(head)
        for option in member.options:
            table.add_row(Text(option.name, "cyan"), option.default, option.type, option.text)
        to.print()
        to.print(table)
        to.print()
