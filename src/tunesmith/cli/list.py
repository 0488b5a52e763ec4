from typing import TYPE_CHECKING

from tunesmith.cli.out import Out

if TYPE_CHECKING:
    from rich.console import Console

    from tunesmith.verbs.members import Member


def list(room: str | None = None, /) -> Out:
    """The members of every room: methods, formats, exports, runtimes, checks.

    Args:
        room: One room only: sources, formats, objectives, methods, exports, runtimes or checks.

    Example:
        $ tunesmith list methods
        methods  Which weights move, and how do they come to rest?
          full     Every weight moves. The most that can be learnt, and the most memory: 16 bytes a weight.
                   reaches: safetensors, gguf, ollama, web
          ...
          prefix   In every layer some keys and values learn that each token attends to besides the tokens
                   before it.
                   options: length, init, text, projection
                   reaches: web
    """
    from tunesmith.verbs.members import list_members

    found = list_members(room)
    tree = {one: [member.as_json() for member in members] for one, members in found.items()}
    return Out(tree, lambda to: _paint(found, to))


def _paint(found: "dict[str, tuple[Member, ...]]", to: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    from tunesmith.verbs.members import QUESTIONS

    for room, members in found.items():
        to.print(Text.assemble((room, "bold"), f"  {QUESTIONS[room]}"))
        table = Table.grid(padding=(0, 2))
        for member in members:
            said = Text(member.summary)
            options = ", ".join(option.name for option in member.options)
            reaches = ", ".join(name for name, one in member.delivers.items() if one.kind == "exact")
            for word, names in (("options", options), ("reaches", reaches)):
                if names:
                    said.append(f"\n{word}: {names}", "dim")
            table.add_row("", Text(member.name, "cyan"), said)
        to.print(table)
        to.print()
