"""The header of a GGUF: what it says of itself, without a tensor being read."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.errors import Fault, SourceError

ADDS_BOS = frozenset(
    {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "lfm2", "tekken", "chameleon"}
)
"""Cutting rules under which llama.cpp puts BOS first where the file does not say (`src/llama-vocab.cpp`)."""


@dataclass(frozen=True)
class Header:
    """What is needed to make a Hugging Face folder of it."""

    tokenizer: str
    """llama.cpp's kind: `gpt2` is byte-level BPE, `llama` SentencePiece."""
    cut: str
    """Name of the cutting rule of a byte-level BPE."""
    bos_id: int | None
    end_ids: tuple[int, ...]
    adds_bos: bool
    chat_template: str | None
    dtype: str
    """Torch's name of the type the weights are kept in."""
    n_tensors: int
    tokens: Any = field(repr=False, default=None)

    def token(self, one: int) -> str:
        """A token as the file writes it."""
        return bytes(self.tokens.parts[self.tokens.data[one]]).decode()


def read(file: Path, base: str) -> Header:
    """The header of a file.

    Raises:
        SourceError: `source/no-file`, `source/not-gguf`, `source/split-gguf` or `source/no-gguf-reader`.
    """
    if not file.is_file():
        raise SourceError(Fault("source/no-file", "there is no such file", fix="check the path", file=base))
    if re.search(r"-\d{5}-of-\d{5}\.gguf$", file.name):
        raise SourceError(
            Fault(
                "source/split-gguf",
                "this is one part of several",
                fix="join them with llama-gguf-split --merge",
                file=base,
            )
        )
    with file.open("rb") as start:
        if start.read(4) != b"GGUF":
            raise SourceError(
                Fault("source/not-gguf", "it does not begin as a GGUF does", fix="fetch it again, whole", file=base)
            )
    try:
        from gguf import GGUFReader
    except ImportError:
        raise SourceError(
            Fault("source/no-gguf-reader", "reading GGUF needs the package gguf", fix="pip install 'tunesmith[gguf]'")
        ) from None
    try:
        return _of(GGUFReader(file))
    except (ValueError, KeyError, IndexError) as error:
        raise SourceError(
            Fault("source/not-gguf", f"its header cannot be read: {error}", fix="fetch it again, whole", file=base)
        ) from None


def _of(reader: Any) -> Header:
    def value(name: str) -> Any:
        found = reader.get_field(name)
        return found.contents() if found is not None else None

    tokenizer = str(value("tokenizer.ggml.model") or "")
    cut = str(value("tokenizer.ggml.pre") or "")
    said = value("tokenizer.ggml.add_bos_token")
    ends = (value(f"tokenizer.ggml.{one}_token_id") for one in ("eos", "eot", "eom"))
    bos = value("tokenizer.ggml.bos_token_id")
    template = value("tokenizer.chat_template")
    return Header(
        tokenizer=tokenizer,
        cut=cut,
        bos_id=None if bos is None else int(bos),
        end_ids=tuple(dict.fromkeys(int(one) for one in ends if one is not None)),
        adds_bos=bos is not None and (bool(said) if said is not None else tokenizer == "llama" or cut in ADDS_BOS),
        chat_template=None if template is None else str(template),
        dtype=_dtype(reader),
        n_tensors=len(reader.tensors),
        tokens=reader.get_field("tokenizer.ggml.tokens"),
    )


def _dtype(reader: Any) -> str:
    """The type that holds most of the weights: float16 and float32 stay what they are, all else becomes bfloat16."""
    weights: Counter[str] = Counter()
    for tensor in reader.tensors:
        weights[tensor.tensor_type.name] += int(tensor.n_elements)
    most = weights.most_common(1)[0][0] if weights else ""
    return {"F32": "float32", "F16": "float16"}.get(most, "bfloat16")
