import re
from typing import TYPE_CHECKING

from tunesmith.cli.out import Out

if TYPE_CHECKING:
    from rich.console import Console

    from tunesmith.verbs.inspect import Inspection, Pieces

N_FAULTS = 20  # shown in full; --json has them all
N_LINES, N_CHARACTERS = 40, 2000  # of a row
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # would steer the terminal; newline and tab may


def inspect(*data: str, format: str | None = None, model: str | None = None, max_length: int | None = None) -> Out:
    """What is in the data: every fault with its line, token counts, and which text is learnt.

    The first rows are shown as they are learnt from; what is learnt is green on a terminal, and stands in [[ ]]
    where there is no colour. The exit code is 1 when a row cannot be learnt from.

    Args:
        data: Files, globs, folders or Hub data sets (hf:user/name:split).
        format: How a row is read: messages, sharegpt, alpaca, completion or text; found from the rows when left out.
        model: Count tokens and render as this model does: Hub id, folder, .gguf file, or bundle:NAME.
        max_length: Tokens an example may have; what a plan would choose when left out.

    Example:
        $ tunesmith inspect chats.jsonl
        format  messages
        rows    2, of which 1 can be learnt from
        tokens  not counted: name a model, for example --model bundle:smollm2-135m-instruct

        chats.jsonl, line 1, as it is learnt from
        user: play some jazz
        assistant: [[{"intent": "PlayMusic"}]]

        error[data/no-assistant]: no assistant turn, so nothing can be learnt
          at   chats.jsonl, line 2, messages
          fix  add the answer, or remove the row
    """
    from tunesmith.errors import Fault, RecipeError
    from tunesmith.verbs.inspect import inspect as look

    if not data:
        raise RecipeError(Fault("cli/no-data", "inspect needs a file of data", "tunesmith inspect DATA.jsonl"))
    found = look(data, format=format, model=model, max_length=max_length)
    return Out(found.as_json(), lambda to: _paint(found, to), 1 if found.faults else 0)


def _paint(found: "Inspection", to: "Console") -> None:
    from rich.text import Text

    to.print(Text.assemble(("format  ", "dim"), found.format))
    to.print(Text.assemble(("rows    ", "dim"), f"{found.n_rows:,}, of which {found.n_usable:,} can be learnt from"))
    if found.n_prompt_tokens is not None and found.n_learnt_tokens is not None:
        total = found.n_prompt_tokens + found.n_learnt_tokens
        share = found.n_learnt_tokens / total if total else 0
        said = f"{total:,}, of which {found.n_learnt_tokens:,} ({share:.0%}) are learnt"
        to.print(Text.assemble(("tokens  ", "dim"), said))
    else:
        to.print(Text("tokens  not counted: name a model, for example --model bundle:smollm2-135m-instruct", "dim"))
    for row in found.shown:
        to.print()
        to.print(Text(f"{row.where}, as it is learnt from", "dim"))
        _paint_row(row.pieces, to)
    for fault in found.faults[:N_FAULTS]:
        to.print()
        to.print(str(fault), soft_wrap=True)
    if len(found.faults) > N_FAULTS:
        to.print(f"\nand {len(found.faults) - N_FAULTS} more; all of them with: --json")


def _paint_row(pieces: "Pieces", to: "Console") -> None:
    """What is learnt is marked; of a long row the beginning is shown."""
    from rich.text import Text

    in_colour = to.is_terminal and not to.no_color
    shown = Text()
    for text, learnt in pieces:
        words = _CONTROL.sub(lambda one: f"\\x{ord(one[0]):02x}", text)
        shown.append(words if in_colour or not learnt else f"[[{words}]]", "green" if learnt and in_colour else "")
    shown.rstrip()
    kept = "".join(shown.plain.splitlines(keepends=True)[:N_LINES])[:N_CHARACTERS].rstrip()
    left = len(shown.plain) - len(kept)
    to.print(shown[: len(kept)], soft_wrap=True)
    if left:
        to.print(Text(f"... and {left:,} characters more", "dim"))
