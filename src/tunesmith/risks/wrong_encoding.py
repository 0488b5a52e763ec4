from __future__ import annotations

import re
from typing import ClassVar

from tunesmith.risks._contract import Found, Place
from tunesmith.risks._scan import Hit, Scanning
from tunesmith.risks._words import are, rows

# The later bytes of a letter in UTF-8 as cp1252 shows them, and those of them that may well follow a capital letter.
AFTER = "\x80-\xbf" + bytes(one for one in range(0x80, 0xA0)).decode("cp1252", "ignore")
QUOTES = "\u2013\u2014\u2018\u2019\u201c\u201d\u201e\u2026"
MOJIBAKE = re.compile(
    f"\xe2\u20ac|\xf0\u0178|\xc3(?![{QUOTES}])[{AFTER}]|\xc2[\x80-\xbf]"
    f"|(?:[\xc4\xc5\xce-\xd1\xd8\xd9][{AFTER}]){{2}}|(?:[\xe0-\xef][{AFTER}]{{2}}){{2}}"
)
PIECES = re.compile(f"[\xc2-\xc5\xce-\xd1\xd8\xd9\xe0-\xf0][{AFTER}]")  # each of them has such a pair
CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")
HIDDEN = re.compile("[\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069]")  # joiners, and marks of right-to-left text, stay
ENTITY = re.compile(
    r"&(?:amp|lt|gt|quot|apos|nbsp|rsquo|lsquo|rdquo|ldquo|hellip|mdash|ndash|eacute|#x?[0-9a-f]{2,6});", re.I
)
TAG = re.compile(r"</?[a-z][a-z0-9]*(?:\s[^<>]*)?/?>", re.IGNORECASE)
HIGH = 0.01  # of the rows

KINDS = {
    "mojibake": ("text in UTF-8 that was read as Latin-1", "read the source as UTF-8 and write the rows anew"),
    "lost": ("letters that were lost (U+FFFD)", "read the source in its own encoding and write the rows anew"),
    "control": ("control characters", "take them out"),
    "hidden": ("characters that nobody sees: zero width, or turning the direction of text", "take them out"),
    "entity": ("HTML entities outside HTML", "write the characters that they stand for"),
}


class WrongEncoding(Scanning):
    """Text that went wrong on its way: letters in pieces or lost, characters that nobody sees, HTML's entities."""

    kind: ClassVar[str] = "wrong_encoding"
    asks: ClassVar[str] = "Did text go wrong on its way into the rows?"

    def find(self, text: str) -> list[Hit]:
        """What of it stands in a text."""
        found: list[Hit] = []
        if one := CONTROL.search(text):
            found.append(("control", _code(one[0])))
        if "&" in text and (one := ENTITY.search(text)) and not TAG.search(text):
            found.append(("entity", one[0]))
        if text.isascii():
            return found
        if PIECES.search(text) and (one := MOJIBAKE.search(text)):
            found.append(("mojibake", ascii(one[0]) if CONTROL.search(one[0]) else repr(one[0])))
        if "\ufffd" in text:
            found.append(("lost", "U+FFFD"))
        if one := HIDDEN.search(text):
            found.append(("hidden", _code(one[0])))
        return found

    def tell(self, kind: str, n: int, places: tuple[Place, ...]) -> Found:
        """Letters in pieces or lost are high from 1 % of the rows on."""
        name, fix = KINDS[kind]
        what = f"{rows(n, self._seen.n)} {are(n, 'holds', 'hold')} {name}, such as {self._scan.shown[kind]}"
        is_high = kind in ("mojibake", "lost") and n >= HIGH * self._seen.n
        return Found(self.kind, "high" if is_high else "low", what, fix, n, places)


def _code(character: str) -> str:
    return f"U+{ord(character):04X}"
