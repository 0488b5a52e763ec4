"""Token ids as the pieces of text that they add, one by one, so that each can be shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tunesmith.text.template import Text

HALF = "\ufffd"  # what decoding gives for bytes that are no whole character yet
LONGEST_CHARACTER = 8  # tokens at most that wait for each other to be a character


@dataclass(frozen=True)
class Piece:
    """Some text and the ids that say it: one, or several that only together are a character."""

    text: str
    ids: tuple[int, ...]
    learnt: bool
    special: bool


def pieces(ids: Sequence[int], weights: Sequence[float], text: Text) -> Iterator[Piece]:
    """The ids as pieces, in order; together they are what `text.spell` says of all of them."""
    special = special_ids(text)
    waiting: list[int] = []
    context: list[int] = []
    for at, one in enumerate(ids):
        waiting.append(one)
        added = _added(context, waiting, text)
        if added.endswith(HALF) and at + 1 < len(ids) and len(waiting) < LONGEST_CHARACTER:
            continue
        yield Piece(added, tuple(waiting), weights[at] > 0, one in special)
        context, waiting = waiting, []


def special_ids(text: Text) -> frozenset[int]:
    """The tokens that are marks, such as `<|im_end|>`, and no words."""
    added = text.tokenizer.added_tokens_decoder
    return frozenset(text.tokenizer.all_special_ids) | {one for one, token in added.items() if token.special}


def _added(context: Sequence[int], ids: Sequence[int], text: Text) -> str:
    """What ids say after others: alone, some tokenizers would drop a space before them."""
    before = text.spell(context)
    whole = text.spell([*context, *ids])
    return whole[len(before) :] if whole.startswith(before) else text.spell(ids)
