from __future__ import annotations

from typing import ClassVar

from tunesmith.checks._contract import Case, Look


class SameTokens:
    """The prompt becomes the same token ids; where a runtime shows no ids, the same number of them.

    Why it matters: a tokenizer that splits words otherwise, or a beginning-of-text token put twice, shifts every
    answer a little, and nothing fails aloud.
    """

    kind: ClassVar[str] = "same_tokens"
    asks: ClassVar[str] = "does the prompt become the same tokens?"

    def look(self, case: Case) -> Look:
        """Compares the ids of every rendered prompt."""
        wrong, counted = [], False
        for ask in case.asks:
            wanted = case.text.prompt(ask)
            seen = case.other.tokens(wanted.text)
            if isinstance(seen, int):
                counted = True
                if seen != len(wanted.ids):
                    wrong.append(f"should be {len(wanted.ids)} tokens, are {seen}")
            elif tuple(seen) != wanted.ids:
                wrong.append(_first_difference(case, wanted.ids, tuple(seen)))
        n = len(case.asks)
        why = wrong[0] if wrong else "this runtime shows no ids: their number was compared" if counted else ""
        return Look("no" if wrong else "yes", f"{n - len(wrong)} of {n}", f"{n} of {n}", why)


def _first_difference(case: Case, wanted: tuple[int, ...], seen: tuple[int, ...]) -> str:
    pairs = zip(wanted, seen, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(seen)))
    words = case.text.tokenizer.convert_ids_to_tokens
    return f"at token {at}: should be {words(list(wanted[at : at + 3]))}, is {words(list(seen[at : at + 3]))}"
