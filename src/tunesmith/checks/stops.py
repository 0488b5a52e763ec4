from __future__ import annotations

from typing import ClassVar

from tunesmith.checks._contract import Case, Look


class Stops:
    """An answer ends by itself wherever the reference's does.

    Why it matters: answers that never end are the commonest complaint about tuned models that were taken to another
    runtime, and come from an end token that was lost on the way.
    """

    kind: ClassVar[str] = "stops"
    asks: ClassVar[str] = "does it stop by itself?"

    def look(self, case: Case) -> Look:
        """Compares how answers end."""
        ended = [ask for ask in case.asks if case.reference.answer(ask, case.max_tokens).stopped]
        if not ended:
            why = f"the model itself does not end within {case.max_tokens} tokens"
            return Look("cannot_tell", None, None, why)
        n = len(ended)
        stopped = sum(case.other.answer(ask, case.max_tokens).stopped for ask in ended)
        # A quantised file may answer otherwise, and a longer answer is no lost end token.
        needed = n if not case.quantised else 1
        return Look("yes" if stopped >= needed else "no", f"{stopped} of {n}", f"{needed} of {n}")
