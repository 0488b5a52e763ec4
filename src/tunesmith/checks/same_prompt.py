from __future__ import annotations

from typing import ClassVar

from tunesmith.checks._contract import Case, Look


class SamePrompt:
    """The chat template gives the same text everywhere, byte for byte.

    Why it matters: a model that is asked in other words than it was taught with answers as if it had not been taught.
    It is the commonest reason for a tuned model that works in PyTorch and talks nonsense elsewhere.
    """

    kind: ClassVar[str] = "same_prompt"
    asks: ClassVar[str] = "is the prompt rendered as in training?"

    def look(self, case: Case) -> Look:
        """Compares every rendered prompt."""
        wrong = []
        for ask in case.asks:
            wanted, seen = case.reference.render(ask), case.other.render(ask)
            if seen != wanted:
                wrong.append(_first_difference(wanted, seen))
        n = len(case.asks)
        return Look("no" if wrong else "yes", f"{n - len(wrong)} of {n}", f"{n} of {n}", wrong[0] if wrong else "")


def _first_difference(wanted: str, seen: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(wanted, seen, strict=False)) if a != b), min(len(wanted), len(seen)))
    start = max(0, at - 20)
    return f"at character {at}: should be {wanted[start : at + 20]!r}, is {seen[start : at + 20]!r}"
