from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.cli.out import Out

if TYPE_CHECKING:
    from rich.console import Console

    from tunesmith.verbs.inspect import Inspection


def inspect(
    data: tuple[str, ...], /, *, format: str | None = None, model: str | None = None, max_length: int | None = None
) -> Out:  # noqa: A002
    """What is in the data: every fault with its line, token counts, and which text is learnt.

    The exit code is 1 when a row cannot be learnt from.

    Args:
        data: File or files.
        format: How a row is read: messages or text; found from the rows when left out.
        model: Count tokens and render as this model does: Hub id, folder, .gguf file, or bundle:NAME.
        max_length: Tokens an example may have; the model's context when left out.

    Example:
        $ tunesmith inspect chats.jsonl
    """
    from tunesmith.verbs.inspect import inspect as look

    found = look(data, format=format, model=model, max_length=max_length)
    return Out(found.as_json(), lambda to: _paint(found, to), 1 if found.faults else 0)
