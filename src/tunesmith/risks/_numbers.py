"""Numbers that carry their own check: payment cards, bank accounts, addresses on the internet."""

from __future__ import annotations

import ipaddress
import re

# Issuers' first digits and lengths: https://en.wikipedia.org/wiki/Payment_card_number
CARD = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d+|3[47]\d{13}"
    r"|6(?:011|5\d\d|4[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}"
)
GROUPS = ((4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3))  # as cards are printed
FOR_TESTS = """
    4111111111111111 4242424242424242 4000056655665556 4012888888881881 4222222222222 5555555555554444 2223003122003222
    5200828282828210 5105105105105100 378282246310005 371449635398431 6011111111111117 6011000990139424 30569309025904
    3056930009020004 36227206271667 3530111333300000 3566002020360505 38520000023237
"""  # which payment services give out to try their forms with
# The length of an account number by its country: https://www.iban.com/structure
IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FO GL NL",
        19: "MK SI",
        20: "AT BA EE KZ LT LU XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS",
        23: "AE GI IL IQ TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VA",
        25: "PT ST",
        26: "IS TR",
        27: "FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB PL SV",
        29: "BR PS QA UA",
        30: "JO KW MU",
        31: "MT SC",
    }.items()
    for country in countries.split()
}


def is_card(written: str) -> bool:
    """Whether digits, in one piece or in the groups of a card, are an issuer's number with the right last digit."""
    groups = tuple(map(len, re.split(r"[ -]", written)))
    digits = re.sub(r"\D", "", written)
    if len(groups) > 1 and groups not in GROUPS:
        return False
    if not CARD.fullmatch(digits) or (digits[0] in "25" and len(digits) != 16) or digits in FOR_TESTS:
        return False
    return len(set(digits)) > 3 and _luhn(digits)


def _luhn(digits: str) -> bool:
    doubled = (int(one) * 2 for one in digits[-2::-2])
    return (sum(map(int, digits[-1::-2])) + sum(one - 9 if one > 9 else one for one in doubled)) % 10 == 0


def iban(written: str) -> str:
    """The account number with which a text begins; empty where there is none."""
    letters = written.replace(" ", "")
    length = IBAN_LENGTHS.get(letters[:2], 0)
    number = letters[:length]
    if not length or len(number) < length or letters[length : length + 1].isdigit():
        return ""
    turned = number[4:] + number[:4]
    return number if int("".join(str(int(one, 36)) for one in turned)) % 97 == 1 else ""


def is_public_address(written: str) -> bool:
    """Whether it is an address of one machine on the internet; versions such as 1.10.0.2 are not taken for one."""
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return False
    if not address.is_global or address.is_multicast:
        return False
    parts = written.split(".") if address.version == 4 else []
    return len(set(parts)) > 1 and max(map(int, parts)) >= 32 and int(parts[0]) >= 11 if parts else True
