"""Numbers as people and models write them."""

from __future__ import annotations

import re
from fractions import Fraction

MARK = "####"  # GSM8K: what stands behind it is the result (Cobbe et al. 2021, arXiv 2110.14168)
LONGEST = 60  # characters; what is longer is a model in a loop, and would make huge integers
LARGEST_POWER = 99

BETWEEN_GROUPS = (
    "'\u2019_\u00a0\u202f\u2009"  # apostrophes, no-break and thin spaces; a plain one may stand between two numbers
)
GROUPS = re.compile(rf"(?<=\d)[{BETWEEN_GROUPS}](?=\d{{3}}(?!\d))")
GROUPS_OR_PLAIN = re.compile(rf"(?<=\d)[{BETWEEN_GROUPS} ](?=\d{{3}}(?!\d))")
NUMBER = re.compile(
    r"(?<!\w)(?<!\w[.,/])(?P<sign>[-\u2212+]?(?:[$€£¥]\s?[-\u2212]?)?)"
    r"(?P<digits>\d(?:[\d.,]*\d)?|\.\d+)(?P<power>(?:[eE][-+]?\d+)?)(?:\s?/\s?(?P<below>\d+))?"
)
THOUSANDS = re.compile(r"\d{1,3}([.,])\d{3}(?:\1\d{3})*")
UNIT = re.compile(r"[^\d\n]{0,30}")


def result(text: str) -> Fraction | None:
    """The number that a text ends in: the last behind `####`, else the last of the text; None where there is none.

    Groups of thousands (`1,000`, `1'000`), decimal commas (`2,5`), fractions (`3/4`) and exponents are read; a unit or
    a currency plays no part. Behind `####` a plain space may group digits too.
    """
    _, mark, behind = text.rpartition(MARK)
    found = list(NUMBER.finditer(GROUPS_OR_PLAIN.sub("", behind) if mark else GROUPS.sub("", text)))
    return _value(found[-1]) if found else None


def is_result(text: str) -> bool:
    """Whether a text is a number with at most a unit, or says by `####` that it ends in one."""
    if MARK in text:
        return result(text) is not None
    text = GROUPS_OR_PLAIN.sub("", text.strip())
    found = NUMBER.match(text)
    return found is not None and _value(found) is not None and UNIT.fullmatch(text, found.end()) is not None


def _value(found: re.Match[str]) -> Fraction | None:
    power, below = found["power"], found["below"] or "1"
    if len(found[0]) > LONGEST or abs(int(power[1:] or 0)) > LARGEST_POWER:
        return None
    try:
        value = Fraction(_plain(found["digits"]) + power) / int(below)
    except (ValueError, ZeroDivisionError):
        return None
    return -value if re.search("[-\u2212]", found["sign"]) else value


def _plain(digits: str) -> str:
    """The digits with a point before the decimals and nothing between groups; of a list such as `1,2,3` the last."""
    *_, last = ["", *re.findall("[.,]", digits)]
    if len(set(digits) & set(".,")) == 2:  # both are there: the last parts off the decimals, the other groups
        digits = digits.replace("," if last == "." else ".", "")
    elif (found := THOUSANDS.fullmatch(digits)) and (last == "," or digits.count(last) > 1):
        return digits.replace(found[1], "")
    return digits.replace(",", ".") if not last or digits.count(last) == 1 else digits.rpartition(last)[2]
