"""The verbs, and what `tunesmith --help` says: plain text from a table, which answers before a library is loaded."""

import importlib
from collections.abc import Callable
from typing import Any

VERBS = {
    "demo": "The whole chain on built-in data and a small real model: minutes on a laptop.",
    "run": "A recipe from data to checked exports; finished stages are not done again.",
    "new": "A commented recipe to start from.",
    "inspect": "What is in the data: every fault with its line, token counts, and which text is learnt.",
    "plan": "What a recipe would take, and every reason why it would not work, before anything is loaded.",
    "tune": "A tuned model from a recipe.",
    "export": "A tuned model in the forms that runtimes want.",
    "check": "Whether every runtime gives the answers the model gives in torch.",
    "prove": "Whether tuning was worth it: the tuned model against its base, prompted as well as can be.",
    "chat": "Talk to a model, in any runtime.",
    "serve": "The chat page of a web export, on this machine alone.",
    "list": "The members of every room: methods, formats, risks, exports, runtimes, checks, metrics.",
    "show": "One member with its options.",
    "doctor": "What this machine has and lacks.",
}
TALK = {
    "--json": "One JSON document to stdout instead of tables, errors included.",
    "--quiet": "No notes and no bars on stderr; errors only.",
    "--trace": "With an error, the Python traceback; with work, what the libraries below say.",
}
GROUPS = {
    "The chain": ("demo", "run", "new", "inspect", "plan", "tune", "export", "check", "prove", "chat", "serve"),
    "To look round": ("list", "show", "doctor"),
}
OPENING = """\
Usage: tunesmith VERB [OPTIONS]

Base model + data -> tuned model -> GGUF -> Ollama -> Transformers.js, each step checked against the one before.
"""
CLOSING = """\
Each verb has a page of its own: tunesmith VERB --help

Example:
  $ tunesmith demo              # the whole chain, on built-in data
  $ tunesmith new voice         # a recipe to fill in: voice.yaml
  $ tunesmith run voice.yaml    # data -> tuned model -> exports -> checks"""


def page() -> str:
    """The help of `tunesmith` itself."""
    parts = [OPENING]
    for title, verbs in GROUPS.items():
        parts.append("\n".join([f"{title}:", *(f"  {verb:<8} {VERBS[verb]}" for verb in verbs)]) + "\n")
    talk = [f"  {flag:<8} {text}" for flag, text in TALK.items()]
    parts.append("\n".join(["With every verb:", *talk, "  --help   The verb's own page.", "  --version"]) + "\n")
    return "\n".join([*parts, CLOSING])


def function(verb: str) -> Callable[..., Any]:
    """The function behind a verb: `tunesmith.cli.VERB:VERB`."""
    found: Callable[..., Any] = getattr(importlib.import_module(f"tunesmith.cli.{verb}"), verb)
    return found
