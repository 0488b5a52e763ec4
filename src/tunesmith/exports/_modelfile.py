"""The Modelfile: the readable twin of what is sent to Ollama. Its quotes know no escapes, so not every text fits in."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any


def modelfile(gguf: str, payload: Mapping[str, Any]) -> str | None:
    """The Modelfile that makes the same model with `ollama create`; None where it would make another.

    `gguf` is the path of the weights as seen from the Modelfile, `payload` the body for `/api/create`.
    """
    texts = {name: payload[name] for name in ("template", "system") if payload.get(name)}
    if not all(is_kept(str(text)) for text in [gguf, *texts.values()]) or gguf != gguf.strip() or "\n" in gguf:
        return None
    lines = [f"FROM {gguf}"]
    lines += [f'{name.upper()} """{text}"""' for name, text in texts.items()]
    for name, value in payload.get("parameters", {}).items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, str) and ('"' in one or not is_kept(one)):
                return None
            lines.append(f'PARAMETER {name} "{one}"' if isinstance(one, str) else f"PARAMETER {name} {_number(one)}")
    if payload.get("requires"):
        lines.append(f"REQUIRES {payload['requires']}")
    return "\n".join(lines) + "\n"


def is_kept(text: str) -> bool:
    """Whether Ollama's parser gives this text back as it was written between three quotes."""
    return '"""' not in text and not text.startswith("\ufeff") and all(_is_kept(character) for character in text)


def _is_kept(character: str) -> bool:
    # The parser drops what Go's strconv.IsPrint refuses, but for the tab and the line ends.
    return character in " \t\n\r" or unicodedata.category(character)[0] in "LMNPS"


def _number(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
