from __future__ import annotations

from math import ceil
from typing import ClassVar

from tunesmith.checks._contract import Case, Look
from tunesmith.text.example import Ask


class Stops:
    """An answer ends by itself wherever the reference's does.

    A quantised file may answer in other words, and a longer answer is no lost end token: one that parted from the
    reference's words before their end may be cut, as long as half of all answers end.

    Why it matters: answers that never end are the commonest complaint about tuned models that were taken to another
    runtime, and come from an end token that was lost on the way.
    """

    kind: ClassVar[str] = "stops"
    asks: ClassVar[str] = "does it stop by itself?"

    def look(self, case: Case) -> Look:
        """Compares how answers end."""
        ended = [ask for ask in case.asks if case.ends(ask)]
        if not ended:
            why = f"the model itself does not end within {case.max_tokens} tokens"
            return Look("cannot_tell", None, None, why)
        n = len(ended)
        stopped = sum(case.other.answer(ask, case.max_tokens).stopped for ask in ended)
        needed = n
        if case.quantised:
            needed = max(ceil(n / 2), n - sum(_is_cut_in_other_words(case, ask) for ask in ended))
        return Look("yes" if stopped >= needed else "no", f"{stopped} of {n}", f"{needed} of {n}")


def _is_cut_in_other_words(case: Case, ask: Ask) -> bool:
    wanted = case.wanted(ask).strip()
    seen = case.other.answer(ask, case.max_tokens)
    return not seen.stopped and not (wanted and seen.text.strip().startswith(wanted))
