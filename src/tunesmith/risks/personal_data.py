from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from tunesmith.risks._contract import Found, Place
from tunesmith.risks._numbers import iban, is_card, is_public_address
from tunesmith.risks._scan import Hit, Scanning, masked
from tunesmith.risks._words import are, rows

CARD, ACCOUNT, MAIL, PHONE, ADDRESS = (
    "the number of a payment card",
    "a bank account (IBAN)",
    "an e-mail address",
    "a telephone number",
    "the address of a machine (IP)",
)
HIGH = (CARD, ACCOUNT)

MAIL_SHAPE = re.compile(r"[\w.+-](?<![\w.+-].)[\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![\w@])")
NOBODY = re.compile(  # mailboxes of no one person, and domains that are kept for examples (RFC 2606)
    r"(?:info|support|contact|sales|help|hello|admin|office|service|services|customerservice|no-?reply|team|press|media"
    r"|jobs|careers|privacy|security|webmaster|postmaster|abuse|billing|feedback|enquiries|orders|git|root|user|username"
    r"|you|your|yourname|your[._-]?email|name|email|someone|test|foo)@.*"
    r"|.*@(?:.*\.)?(?:example(?:\.\w+)+|\w+\.(?:example|test|invalid|localhost|local)|email\.com|domain\.com)"
    r"|.*\.(?:png|jpe?g|gif|svg|webp|css|js|ts|py|html?|json|md|txt)",
    re.IGNORECASE,
)
# A shape first says with which letters it may begin and then looks back: so re skips all others, which is faster.
LONG = re.compile(r"\d[ ().-]{0,2}(?:\d[ ().-]{0,2}){7}")  # no card, account or telephone has fewer digits in a row
DOTTED = re.compile(r"\d\.\d{1,3}\.\d")
CARD_SHAPE = re.compile(r"\d(?<![\w.,+-]\d)(?:[ -]?\d){12,18}(?![\w-]|[.,]\d)")
IBAN_SHAPE = re.compile(r"[A-Z](?<![A-Za-z0-9].)[A-Z]\d{2} ?(?:[A-Z0-9] ?){11,30}")
PHONE_SHAPE = re.compile(
    r"\+(?<![\w+=*/.-]\+)[1-9](?:(?:[ .-]|\)[ .-]?|[ .-]?\()?\d){8,14}(?![\w+*/=]|[.,]\d)"
    r"|[(2-9](?<![\w+.-].)(?:(?<=\()[2-9]\d\d\) ?|(?<=\d)\d\d[-.])[2-9]\d\d[-.]\d{4}(?![\w-]|[.,]\d)"
)
IPV4_SHAPE = re.compile(r"\d(?<![\w.-]\d)\d?\d?(?:\.\d{1,3}){3}(?![\w-]|\.\d)")
IPV6_SHAPE = re.compile(r"[0-9A-Fa-f](?<![\w:.].)[0-9A-Fa-f]{0,3}:(?:[0-9A-Fa-f]{1,4}:){3,6}[0-9A-Fa-f:]+(?![\w:])")


class PersonalData(Scanning):
    """What may belong to a person: mail, telephone, card, bank account, machine.

    Numbers that carry a check must pass it; telephone numbers are sought in the forms +49 30 ... and (212) 555-..., and
    in no other. What is found is never repeated.
    """

    kind: ClassVar[str] = "personal_data"
    asks: ClassVar[str] = "Are there addresses and numbers of people?"

    def find(self, text: str) -> list[Hit]:
        """What of it stands in a text."""
        found: list[Hit] = []
        if "@" in text:
            found += [(MAIL, masked(one[0])) for one in MAIL_SHAPE.finditer(text) if not NOBODY.fullmatch(one[0])]
        if LONG.search(text):
            found += _numbers(text)
        if DOTTED.search(text):
            found += [(ADDRESS, masked(one[0])) for one in IPV4_SHAPE.finditer(text) if is_public_address(one[0])]
        if text.count(":") > 4:
            found += [(ADDRESS, masked(one[0])) for one in IPV6_SHAPE.finditer(text) if is_public_address(one[0])]
        return found

    def tell(self, kind: str, n: int, places: tuple[Place, ...]) -> Found:
        """Cards and accounts are high."""
        what = f"{rows(n, self._seen.n)} {are(n, 'holds', 'hold')} what looks like {kind}: {self._scan.shown[kind]}"
        fix = "put made-up ones in their place, unless they may be told to anyone"
        return Found(self.kind, "high" if kind in HIGH else "low", what, fix, n, places)


def _numbers(text: str) -> Iterator[Hit]:
    for one in CARD_SHAPE.finditer(text):
        if is_card(one[0]):
            yield CARD, masked(one[0])
    for one in IBAN_SHAPE.finditer(text):
        if number := iban(one[0]):
            yield ACCOUNT, masked(number)
    for one in PHONE_SHAPE.finditer(text):
        if _is_phone(one):
            yield PHONE, masked(one[0])


def _is_phone(found: re.Match[str]) -> bool:
    """Not one digit over and over, and none of the American ones that are kept for films (555-01xx)."""
    digits = re.sub(r"\D", "", found[0])
    return len(set(digits)) > 2 and digits[-7:-2] != "55501"
