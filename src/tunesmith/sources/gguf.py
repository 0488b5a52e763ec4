from __future__ import annotations

from pathlib import Path

from tunesmith.sources import _gguf_model
from tunesmith.weights.facts import BaseFacts


class Gguf:
    """A .gguf file on this machine, dequantised once and kept in the cache under the file's hash."""

    @classmethod
    def claims(cls, base: str) -> bool:
        """A path that ends in `.gguf`."""
        return base.lower().endswith(".gguf")

    def facts(self, base: str) -> BaseFacts:
        """What the file's header says.

        Raises:
            SourceError: the file is not there, not GGUF, or of an architecture that transformers cannot read.
        """
        return _gguf_model.facts(Path(base).expanduser(), base)

    def bring(self, base: str) -> Path:
        """The dequantised model as a Hugging Face folder.

        Raises:
            SourceError: as `facts`.
        """
        return _gguf_model.dequantised(Path(base).expanduser(), base)
