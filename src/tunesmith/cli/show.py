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
        $ tunesmith show freeze
        methods/freeze
        Some weights of the model move, most often those of its last layers, and the others are frozen.

        The backward pass ends at the lowest weight that moves: what lies below goes forward only, and
        keeps nothing.

        reaches             how
        safetensors  exact  the weights themselves
        gguf         exact  the weights themselves
        ollama       exact  the weights themselves
        web          exact  the weights themselves

        option      default  type                                  what it is
        layers      0.25     integer or number or list of integer  Layers that move: how many of the
                                                                   last (0: none), or the last share
                                                                   of all, rounded up, or a list of
                                                                   numbers from 0, where -1 is the
                                                                   last.
        embeddings  false    true or false                         Whether the embeddings move as
                                                                   well; where the output head is the
                                                                   same weight, it moves with them.
        head        false    true or false                         Whether the output head moves as
                                                                   well; of a base whose head is the
                                                                   embedding, a copy of it does.
        norms       false    true or false                         Whether every norm moves, the final
                                                                   one included; those in a layer that
                                                                   moves do so anyway.
        names       []       list of text                          Further weights that move, by
                                                                   patterns of their full names, such
                                                                   as `*.v_proj.*`.
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
