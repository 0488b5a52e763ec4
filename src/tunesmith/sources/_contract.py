from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tunesmith.weights.facts import BaseFacts


class Source(Protocol):
    """Where a base model comes from."""

    @classmethod
    def claims(cls, base: str) -> bool:
        """Whether this word of the recipe is for this source; the first that says yes, by `rooms.py`, has it."""

    def facts(self, base: str) -> BaseFacts:
        """What can be known without the weights. Fetches small files only, where that is possible.

        Raises:
            SourceError: the model cannot be found or reached, with what to type instead.
        """

    def bring(self, base: str) -> Path:
        """A folder with config, tokenizer, chat template and safetensors, from the cache when it was brought before.

        Raises:
            SourceError: the model cannot be found, reached, or verified.
        """
