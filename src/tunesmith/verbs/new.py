from __future__ import annotations

import re
from pathlib import Path

from tunesmith import files
from tunesmith.errors import Fault, RecipeError

BASE = "bundle:smollm2-135m-instruct"
TEMPLATE = """\
# A recipe: what to tune, on what, and where it should run. Only base and data have no default.
#   tunesmith inspect {data}
#   tunesmith plan {file}
#   tunesmith run {file}

# Hub id, folder, .gguf file, or bundle:NAME (a small model that needs no Hub).
base: {base}

data:
  # File or files. Each line is a chat: {{"messages": [{{"role": "user", "content": "..."}},
  # {{"role": "assistant", "content": "..."}}]}}; or raw text, for objective: uft.
  train: {data}
  # Never learnt from: a file, or a fraction of train.
  test: 0.1

# Which tokens carry loss: sft (the assistant's turns) or uft (all of a raw text).
objective: sft

# Which weights move. See: tunesmith list methods
method:
  kind: lora
  rank: 16
  alpha: 32

run:
  epochs: 3
  # Learnt tokens a step; auto follows the size of the data.
  tokens_per_step: auto
  # auto: the method's own.
  learning_rate: auto
  seed: 1

# Where it should run. See: tunesmith list exports
export: [gguf, ollama, web]
"""


def new(name: str, *, base: str | None = None, data: str | None = None) -> Path:
    """Write a commented recipe NAME.yaml; nothing that exists is overwritten.

    Args:
        name: letters, digits, `-`, `_` and `.`, with or without `.yaml`; may begin with a folder.
        base: the base model; the built-in small one when left out.
        data: the training rows; `NAME-train.jsonl` when left out.

    Raises:
        RecipeError: `recipe/bad-name` or `recipe/exists`.
    """
    path = Path(name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if not re.fullmatch(r"[\w][\w.-]*", path.name):
        fix = "use letters, digits, - and _, for example: tunesmith new voice"
        raise RecipeError(Fault("recipe/bad-name", f"{path.name!r} cannot be a file's name here", fix=fix))
    text = TEMPLATE.format(file=path, base=_word(base or BASE), data=_word(data or f"{path.stem}-train.jsonl"))
    if not files.write_new_text(path, text):
        fix = f"choose another name, or delete it first: rm {path}"
        raise RecipeError(
            Fault("recipe/exists", "it is there already, and is not overwritten", fix=fix, file=str(path))
        )
    return path


def _word(text: str) -> str:
    """The text as one YAML word, quoted where YAML would read it otherwise."""
    from io import StringIO

    from ruamel.yaml import YAML

    out = StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.width = 10_000
    yaml.dump(text, out)
    return out.getvalue().removesuffix("...\n").strip()
