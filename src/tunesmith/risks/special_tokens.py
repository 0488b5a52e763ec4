from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

from tunesmith.risks._contract import Found, Place
from tunesmith.risks._scan import Hit, Scanning
from tunesmith.risks._seen import Seen
from tunesmith.risks._words import are, rows
from tunesmith.text.template import Text

MARK = re.compile(r"<\|[A-Za-z][^|<>\s]*\|>|<\uff5c[^\uff5c<>]+\uff5c>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>")
"""What chat templates of the known families write between turns."""
LONE = re.compile(r"<(?:/?s|bos|eos)>")
WHOLE = re.compile(r"\s*<s>.*</s>\s*", re.DOTALL)
PARTS = ("<|", "<\uff5c", "INST]", "SYS>>", "_of_turn>", "s>")  # one of them is in each of these marks
N_SHOWN = 4


class SpecialTokens(Scanning):
    """Text in the rows that a model reads as its own marks: a turn seems to end where it does not."""

    kind: ClassVar[str] = "special_tokens"
    asks: ClassVar[str] = "Does text stand in the rows that a model takes for its marks?"

    def __init__(self, seen: Seen) -> None:
        super().__init__(seen)
        self._own = _one_of(_marks_of(seen.text)) if seen.text else None
        self._found_own: dict[str, None] = {}
        self._found_foreign: dict[str, None] = {}

    def tell(self, kind: str, n: int, places: tuple[Place, ...]) -> Found:
        """The model's own marks are high; those of other families are low where the model is known."""
        marks = self._found_own if kind == "own" else self._found_foreign
        shown = ", ".join(list(marks)[:N_SHOWN]) + (", ..." if len(marks) > N_SHOWN else "")
        whose = "this model reads as special tokens" if kind == "own" else "chat templates write between turns"
        if self._own and kind != "own":
            whose = "chat templates of other models write between turns"
        what = f"{rows(n, self._seen.n)} {are(n, 'holds', 'hold')} text that {whose}: {shown}"
        fix = "leave the marks out: the chat template writes them; one row takes one conversation in messages"
        return Found(self.kind, "low" if self._own and kind != "own" else "high", what, fix, n, places)

    def find(self, text: str) -> list[Hit]:
        """Its own marks and those of others, each once."""
        if "<" not in text and "[" not in text:
            return []
        own = dict.fromkeys(self._own.findall(text)) if self._own else {}
        is_like_mark = any(part in text for part in PARTS)
        foreign = dict.fromkeys([*MARK.findall(text), *_lone(text)]) if is_like_mark else {}
        self._keep(self._found_own, own)
        self._keep(self._found_foreign, foreign.keys() - own.keys())
        return [("own", "")] * bool(own) + [("foreign", "")] * bool(foreign.keys() - own.keys())

    def _keep(self, kept: dict[str, None], found: Iterable[str]) -> None:
        if len(kept) <= N_SHOWN:
            kept.update(dict.fromkeys(sorted(found)))


def _lone(text: str) -> list[str]:
    """`<s>` and `</s>`, but for pairs inside a text, with which HTML strikes out."""
    found = LONE.findall(text)
    is_html = found.count("<s>") == found.count("</s>") and not WHOLE.fullmatch(text)
    return [one for one in found if not is_html or one not in ("<s>", "</s>")]


def _marks_of(text: Text) -> set[str]:
    """The tokenizer's special tokens, and the marks that the template writes."""
    tokens = {str(one) for one in text.tokenizer.all_special_tokens}
    tokens |= {str(one) for one in text.tokenizer.added_tokens_decoder.values() if one.special}
    template = text.tokenizer.get_chat_template(tools=None) if text.has_template else ""
    return {one for one in tokens | set(MARK.findall(template)) if len(one) > 2 and not one.isalnum()}


def _one_of(marks: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern that finds any of them, the longest first; the first letter stands apart, which is faster."""
    by_first: dict[str, list[str]] = {}
    for one in sorted(marks, key=lambda one: (-len(one), one)):
        by_first.setdefault(one[0], []).append(re.escape(one[1:]))
    shapes = [f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in by_first.items()]
    return re.compile("|".join(shapes)) if shapes else None
