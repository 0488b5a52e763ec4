"""Which texts are most like another: BM25 over words and their pieces, from counts alone.

Robertson and Zaragoza (2009), "The Probabilistic Relevance Framework: BM25 and Beyond", with their usual constants.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

K1, B = 1.2, 0.75
PIECE = 3  # letters: pieces find inflected words, and words of scripts that write no spaces
LONGEST = 4000  # characters of a text that are looked at


class Similar:
    """Texts that can be searched by likeness."""

    def __init__(self, texts: Sequence[str]) -> None:
        import numpy as np

        counted = [Counter(_pieces(text)) for text in texts]
        lengths = np.array([sum(one.values()) for one in counted], dtype=np.float64)
        mean = float(lengths.mean()) if len(lengths) else 0.0
        self._damped = K1 * (1 - B + B * lengths / (mean or 1.0))
        found: dict[str, tuple[list[int], list[int]]] = {}
        for place, one in enumerate(counted):
            for piece, n in one.items():
                places, counts = found.setdefault(piece, ([], []))
                places.append(place)
                counts.append(n)
        self._found: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]] = {
            piece: (np.array(places), self._weights(places, counts, len(texts)))
            for piece, (places, counts) in found.items()
        }
        self._n = len(texts)

    def nearest(self, text: str, n: int) -> list[int]:
        """The places of the `n` texts most like this one, the most like first; equal ones in their order."""
        import numpy as np

        scores = np.zeros(self._n)
        for piece in set(_pieces(text)):
            if piece in self._found:
                places, weights = self._found[piece]
                scores[places] += weights
        return [int(place) for place in np.argsort(-scores, kind="stable")[:n]]

    def _weights(self, places: Sequence[int], counts: Sequence[int], n: int) -> NDArray[np.float64]:
        import numpy as np

        rare = math.log(1 + (n - len(places) + 0.5) / (len(places) + 0.5))
        times = np.array(counts, dtype=np.float64)
        weights: NDArray[np.float64] = rare * times * (K1 + 1) / (times + self._damped[list(places)])
        return weights


def _pieces(text: str) -> list[str]:
    words = re.findall(r"\w+", text[:LONGEST].lower())
    return words + [
        f"#{word[at : at + PIECE]}" for word in words if len(word) >= PIECE for at in range(len(word) - PIECE + 1)
    ]
