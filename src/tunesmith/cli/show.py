from typing import TYPE_CHECKING

from tunesmith.cli.out import Out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console
    from rich.table import Table

    from tunesmith.methods._contract import Delivery
    from tunesmith.verbs.members import Member


def show(name: str, /) -> Out:
    """One member with its options.

    Args:
        name: The name that a recipe uses, such as lora; where two rooms share one, ROOM/NAME names one alone.

    Example:
        $ tunesmith show lora
        methods/lora
        Beside each chosen matrix W (outputs, inputs) a product of two thin ones learns: W + alpha /
        rank x B A.

        B begins at zero, so that the model begins as the base. At the end the product is added into W.

        reaches             how
        safetensors  exact  merged in float32 and cast once; the adapter alone stands in adapter/ as PEFT
                            saves it
        gguf         exact  merged in float32 and cast once
        ollama       exact  merged in float32 and cast once
        web          exact  merged in float32 and cast once

        option   default     type                              what it is
        rank     16          integer > 0                       Width of the update, in columns: how much
                                                               can be learnt.
        alpha    32.0        number > 0                        Strength of the update: it counts alpha /
                                                               rank times.
        ...
    """
    from tunesmith.verbs.members import show as find

    found = find(name)
    tree: dict[str, list[object]] = {}
    for member in found:
        tree.setdefault(member.room, []).append(member.as_json())
    return Out(tree, lambda to: _paint(found, to))


def reached(delivers: "Mapping[str, Delivery]") -> "Table":
    """Where a method's result can go, a row for each export."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for head in ("reaches", "", "how"):
        table.add_column(head)
    for name, one in delivers.items():
        instead = f"; instead: {one.instead}" if one.instead else ""
        table.add_row(name, Text(one.kind, "green" if one.kind == "exact" else "yellow"), one.how + instead)
    return table


def _paint(found: "tuple[Member, ...]", to: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    for member in found:
        to.print(Text.assemble((f"{member.room}/{member.name}", "bold")))
        to.print(member.text or member.summary)
        if member.delivers:
            to.print()
            to.print(reached(member.delivers))
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
