from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

from tunesmith.errors import Fault, RuntimeFault
from tunesmith.metrics import _kinds, _libraries
from tunesmith.metrics._contract import Figure, Row
from tunesmith.metrics._row_by_row import RowByRow

WORD = re.compile(r"\w+")
SOME_WORDS = 8  # a text longer than a line has more, unless its script writes no spaces


class Rouge(RowByRow):
    """ROUGE-L F1: how far the answer's words stand in the wanted one, in its order, from 0 to 1.

    Computed by rouge-score (Lin 2004), without stemming. Words are runs of letters and digits of any script, without
    case: the library's own words are those of a to z alone. A script that writes no spaces is better served by `chrf`.
    """

    kind: ClassVar[str] = "rouge"
    asks: ClassVar[str] = "how many words of the wanted text does the answer have, in its order?"

    def refuse(self) -> list[Fault]:
        """Where rouge-score is not installed."""
        return _libraries.missing("rouge-score", "rouge_score")

    def fits(self, wanted: Sequence[str]) -> str:
        """Of texts whose words stand between spaces."""
        spaced = 2 * sum(len(one.split()) >= SOME_WORDS for one in wanted) > len(wanted)
        return _kinds.reason(wanted, "long") if spaced else ""

    def score(self, row: Row) -> float:
        """F1 of the longest common subsequence; two answers without words are the same."""
        if not _words(row.wanted) and not _words(row.said):
            return float(row.wanted.strip() == row.said.strip())
        return float(self._scorer().score(row.wanted, row.said)["rougeL"].fmeasure)

    def together(self, rows: Sequence[Row]) -> Mapping[str, Figure]:
        """`rouge1` and `rouge2`: the mean F1 of words and of pairs of words, their order apart."""
        if not rows:
            return {}
        scored = [self._scorer().score(row.wanted, row.said) for row in rows]
        return {name: sum(one[name].fmeasure for one in scored) / len(rows) for name in ("rouge1", "rouge2")}

    def _scorer(self) -> Any:
        if faults := self.refuse():
            raise RuntimeFault(faults)
        return _scorer()


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=_Words())


class _Words:
    def tokenize(self, text: str) -> list[str]:
        return _words(text)


def _words(text: str) -> list[str]:
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold())
