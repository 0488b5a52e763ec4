from typing import TYPE_CHECKING

from tunesmith.cli.out import Out

if TYPE_CHECKING:
    from rich.console import Console

    from tunesmith.verbs.members import Member


def list(room: str | None = None, /) -> Out:
    """The members of every room: methods, formats, risks, exports, runtimes, checks, metrics.

    Args:
        room: One room only: sources, formats, risks, objectives, methods, exports, runtimes, checks or metrics.

    Example:
        $ tunesmith list exports
        exports  What files does a runtime want?
          safetensors  A folder that Transformers, vLLM, text-generation servers and the Hub take as it
                       is.
                       options: dtype
          gguf         One GGUF file a type, written by llama.cpp's own converter, for llama.cpp, Ollama
                       and all that stands on them.
                       options: types, llama_cpp
          ollama       The model in Ollama, made from the GGUF, with the prompt as in training; and a
                       Modelfile that says the same.
                       options: name, type, num_ctx, parameters, host, create
          web          A chat page and a Node script that run the model with Transformers.js: in a
                       browser, offline, on WebGPU or WASM.
                       options: dtypes, title, system, prompts
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
