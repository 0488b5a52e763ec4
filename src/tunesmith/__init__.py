"""tunesmith: base model + data -> tuned model -> GGUF -> Ollama -> Transformers.js, each step checked by the next."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tunesmith.artifact import Export as Export
    from tunesmith.artifact import Model as Model
    from tunesmith.artifact import Run as Run
    from tunesmith.errors import Fault as Fault
    from tunesmith.errors import TunesmithError as TunesmithError
    from tunesmith.methods.adapter import Adapter as Adapter
    from tunesmith.methods.freeze import Freeze as Freeze
    from tunesmith.methods.full import Full as Full
    from tunesmith.methods.lora import Lora as Lora
    from tunesmith.methods.prefix import Prefix as Prefix
    from tunesmith.methods.prompt import Prompt as Prompt
    from tunesmith.methods.ptuning import Ptuning as Ptuning
    from tunesmith.methods.qlora import Qlora as Qlora
    from tunesmith.objectives.sft import Sft as Sft
    from tunesmith.objectives.uft import Uft as Uft
    from tunesmith.recipe import Data as Data
    from tunesmith.recipe import Options as Options
    from tunesmith.recipe import Recipe as Recipe
    from tunesmith.recipe import Rows as Rows
    from tunesmith.verbs.chat import chat as chat
    from tunesmith.verbs.check import check as check
    from tunesmith.verbs.demo import demo as demo
    from tunesmith.verbs.doctor import doctor as doctor
    from tunesmith.verbs.export import export as export
    from tunesmith.verbs.inspect import inspect as inspect
    from tunesmith.verbs.members import list_members as list_members
    from tunesmith.verbs.members import show as show
    from tunesmith.verbs.new import new as new
    from tunesmith.verbs.plan import plan as plan
    from tunesmith.verbs.prove import prove as prove
    from tunesmith.verbs.run import run as run
    from tunesmith.verbs.serve import serve as serve
    from tunesmith.verbs.tune import tune as tune

_HOME = {
    "Adapter": "methods.adapter",
    "Data": "recipe",
    "Export": "artifact",
    "Fault": "errors",
    "Freeze": "methods.freeze",
    "Full": "methods.full",
    "Lora": "methods.lora",
    "Model": "artifact",
    "Options": "recipe",
    "Prefix": "methods.prefix",
    "Prompt": "methods.prompt",
    "Ptuning": "methods.ptuning",
    "Qlora": "methods.qlora",
    "Recipe": "recipe",
    "Rows": "recipe",
    "Run": "artifact",
    "Sft": "objectives.sft",
    "TunesmithError": "errors",
    "Uft": "objectives.uft",
    "chat": "verbs.chat",
    "check": "verbs.check",
    "demo": "verbs.demo",
    "doctor": "verbs.doctor",
    "export": "verbs.export",
    "inspect": "verbs.inspect",
    "list_members": "verbs.members",
    "new": "verbs.new",
    "plan": "verbs.plan",
    "prove": "verbs.prove",
    "run": "verbs.run",
    "serve": "verbs.serve",
    "show": "verbs.members",
    "tune": "verbs.tune",
}
__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first asked for, so that `import tunesmith` stays light."""
    if name not in _HOME:
        raise AttributeError(f"module 'tunesmith' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tunesmith.{_HOME[name]}"), name)
