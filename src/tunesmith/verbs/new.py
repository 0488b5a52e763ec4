from __future__ import annotations

import re
from pathlib import Path

from tunesmith import files
from tunesmith.errors import Fault, RecipeError
from tunesmith.verbs._drafted import Drafted, draft

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


FILLED = """\
# {file}: for {data_bare}, {rows} read as {format}. Each value says what it follows from.
#   tunesmith plan {file}
#   tunesmith run {file}

# {about_base}
base: {base}

data:
  train: {data}
{test}
{system}
# {why_objective}
objective: {objective}

# {why_method}
method:
{method}
{other_methods}

run:
  # {epochs_why}
  epochs: {epochs}
  # auto, here {step}: {step_why}
  tokens_per_step: auto
  # auto, here {learning_rate:g}: {learning_rate_why}
  learning_rate: auto
  # auto, here {max_length}: {max_length_why}
  max_length: auto
  # auto, here {dtype}: {dtype_why}
  dtype: auto
  seed: 1

{exports}
"""


def new(name: str, *, base: str | None = None, data: str | None = None, for_: str | None = None) -> Path:
    """Write a commented recipe NAME.yaml; nothing that exists is overwritten.

    Args:
        name: letters, digits, `-`, `_` and `.`, with or without `.yaml`; may begin with a folder.
        base: the base model; the built-in small one when left out.
        data: the training rows, named and not read; `NAME-train.jsonl` when left out.
        for_: the training rows, which are read: all values follow from them, the base and this machine.

    Raises:
        RecipeError: `recipe/bad-name`, `recipe/exists`, or `recipe/data-twice`.
        DataError: with `for_`, what is wrong with the rows.
        PlanError: with `for_`, every other reason why they cannot be learnt from here.
    """
    if for_ is not None and data is not None:
        what = f"for names {for_}, and data names {data}"
        raise RecipeError(Fault("recipe/data-twice", what, fix="name the rows once, with --for"))
    path = Path(name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if not re.fullmatch(r"[\w][\w.-]*", path.name):
        fix = "use letters, digits, - and _, for example: tunesmith new voice"
        raise RecipeError(Fault("recipe/bad-name", f"{path.name!r} cannot be a file's name here", fix=fix))
    if path.exists():
        raise _exists(path)
    if for_ is not None:
        text = _filled(path, draft(base or BASE, for_), base or BASE)
    else:
        text = TEMPLATE.format(file=path, base=_word(base or BASE), data=_word(data or f"{path.stem}-train.jsonl"))
    if not files.write_new_text(path, text):
        raise _exists(path)
    return path


def _exists(path: Path) -> RecipeError:
    fix = f"choose another name, or delete it first: rm {path}"
    return RecipeError(Fault("recipe/exists", "it is there already, and is not overwritten", fix=fix, file=str(path)))


def _filled(path: Path, found: Drafted, base: str) -> str:
    """The recipe with all that was found."""
    values = found.values
    whys = {f"{name}_why": _line(values[name].why) for name in FOLLOWING}
    return FILLED.format(
        file=path,
        rows="1 row" if found.n_rows == 1 else f"{found.n_rows:,} rows",
        data_bare=_line(found.train),
        format=found.format,
        about_base=_line(f"{base}: {found.about_base}"),
        base=_word(base),
        data=_word(found.train),
        test=_test(found),
        system=_system(found.n_system_words),
        objective=found.objective,
        why_objective=OBJECTIVES[found.objective],
        why_method=_line(values["method"].why),
        method=_method(found),
        other_methods=_others(str(found.method["kind"])),
        exports=_exports(found),
        **{name: values[name].value for name in FOLLOWING},
        **whys,
    )


FOLLOWING = ("epochs", "step", "learning_rate", "max_length", "dtype")
OBJECTIVES = {
    "sft": "Every row is a chat: the assistant's turns carry loss. uft would be: all of a raw text.",
    "uft": "The rows are raw text: all tokens carry loss. sft would be: the assistant's turns of chats.",
}
METHODS = {
    "full": "all weights move: the most can be learnt, with the most memory",
    "lora": "an update beside the base's weights, merged at the end",
    "qlora": "lora over a base in four bits: the least memory for large bases",
    "freeze": "the last layers move: the fastest over several epochs",
}


def _test(found: Drafted) -> str:
    if isinstance(found.test, str):
        lines = [
            "stands beside it; never learnt from",
            f"test: {_word(found.test)}",
            "# or a share of train: test: 0.1",
        ]
    elif found.test is None:
        lines = ["too few rows to hold some out; name a file of others", "# test: test.jsonl"]
    else:
        lines = ["never learnt from: this share of train, as no file of test rows stands beside it"]
        lines += [f"test: {found.test:g}", "# or a file: test: test.jsonl"]
    return "\n".join(f"  {line}" for line in (f"# {lines[0]}", *lines[1:]))


def _system(n_words: int) -> str:
    if not n_words:
        return ""
    why = f"all rows begin with one system prompt of {n_words:,} words; drop: what it asks for is learnt, and not sent"
    return f"  # {why}\n  system_prompt: keep\n"


def _method(found: Drafted) -> str:
    """Its options; the reason of the rank stands above it."""
    lines = []
    for key, value in found.method.items():
        if key == "rank" and "rank" in found.values:
            lines.append(f"  # {_line(found.values['rank'].why)}")
        lines.append(f"  {key}: {value}")
    if "rank" in found.values:
        rank = found.values["rank"]
        lines += [] if "rank" in found.method else [f"  # {_line(rank.why)}", f"  rank: {rank.value}"]
        lines += ["  alpha: 32"] if "alpha" not in found.method else []
    return "\n".join(lines)


def _others(kind: str) -> str:
    return "\n".join(f"# method: {name}  # {why}" for name, why in METHODS.items() if name != kind)


def _exports(found: Drafted) -> str:
    lines = ["# Where it should run. See: tunesmith list exports"]
    lines += [f"# {name} is left out: {_line(why)}" for name, why in found.left_out.items()]
    return "\n".join([*lines, f"export: [{', '.join(found.exports) or 'safetensors'}]"])


def _line(text: str) -> str:
    """Text as it can stand in a comment."""
    return " ".join(text.split())


def _word(text: str) -> str:
    """The text as one YAML word, quoted where YAML would read it otherwise."""
    from io import StringIO

    from ruamel.yaml import YAML

    out = StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.width = 10_000
    yaml.dump(text, out)
    return out.getvalue().removesuffix("...\n").strip()
