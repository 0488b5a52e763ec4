from __future__ import annotations

from pathlib import Path

from tunesmith.errors import Fault, SourceError
from tunesmith.sources import _examine
from tunesmith.weights.facts import BaseFacts


class Folder:
    """A Hugging Face model folder on this machine: config, tokenizer, safetensors. It is used where it stands."""

    @classmethod
    def claims(cls, base: str) -> bool:
        """A folder that exists, or a word that can only be a path."""
        return base.startswith((".", "/", "~")) or Path(base).is_dir()

    def facts(self, base: str) -> BaseFacts:
        """What its small files say.

        Raises:
            SourceError: `source/no-folder`, `source/is-adapter`, or why it cannot be trained.
        """
        folder = Path(base).expanduser()
        if not folder.is_dir():
            raise SourceError(
                Fault("source/no-folder", "there is no such folder", fix="check the path, or give a Hub id", file=base)
            )
        return _examine.examined(folder, base)

    def bring(self, base: str) -> Path:
        """The folder itself.

        Raises:
            SourceError: as `facts`, and when its weights are not safetensors or not all there.
        """
        facts = self.facts(base)
        return _examine.weighty(facts.folder, base)
