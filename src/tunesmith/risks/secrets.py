from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import ClassVar

from tunesmith.risks._contract import Found, Place
from tunesmith.risks._scan import Hit, Scanning, looks_random, masked
from tunesmith.risks._words import are, rows

# Each with what must stand in a text before its pattern is tried. As the issuers and secret scanners describe them:
# https://docs.github.com/en/code-security/secret-scanning/introduction/supported-secret-scanning-patterns
KEYS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("an AWS access key", ("AKIA", "ASIA"), r"(?:AKIA|ASIA)[A-Z2-7]{16}"),
    ("a Google API key", ("AIza",), r"AIza[\w-]{35}"),
    (
        "a GitHub token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}",
    ),
    ("a GitLab token", ("glpat-",), r"glpat-[\w-]{20,64}"),
    ("a Slack token", ("xox",), r"xox[abeoprs]-\d{8,14}-[A-Za-z0-9-]{10,120}"),
    ("an API key", ("sk-",), r"sk-(?:proj|svcacct|admin|ant)-[\w-]{24,200}|sk-[A-Za-z0-9]{32,64}"),
    ("a Hugging Face token", ("hf_",), r"hf_[A-Za-z0-9]{34,40}"),
    ("a Stripe key", ("_live_",), r"[rs]k_live_[A-Za-z0-9]{16,120}"),
)
PATTERNS = tuple((name, marks, re.compile(rf"(?<![\w-])(?:{shape})(?![\w-])")) for name, marks, shape in KEYS)
MARKS = tuple(mark for _, marks, _ in KEYS for mark in marks)
KEY_BITS = 3.0  # a character, at least; random base 32 of 20 characters has 3.5 and more

JWT = re.compile(r"(?<![\w-])(eyJ[\w-]{10,})\.eyJ[\w-]{10,}\.[\w-]{16,}")
PRIVATE_KEY = re.compile(
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr])+(?:[\w+/=:,. -]|\\[nr]|\s){64}"
)
IN_URL = re.compile(r"(?<![\w+.-])[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,64}:([^\s/@]{6,128})@[\w.-]+", re.IGNORECASE)

NAMES = ("passw", "passphrase", "pwd", "secret", "api_key", "api-key", "apikey", "_token")
ASSIGNED = re.compile(
    r"(?:password|passwd|passphrase|pwd|secret(?:[_-]?(?:access[_-]?)?key)?|api[_-]?key|(?:access|auth)_token)"
    r"""["']?\s?(?::=|=|:)\s?["']?([^\s"'`,;]{8,128})""",
    re.IGNORECASE,
)
PLACEHOLDER = re.compile(r"example|placeholder|your|change|dummy|sample|secret|passw|token|xxx|\*\*|\.\.\.|test", re.I)
CODE = re.compile(r"[(){}\[\]<>$]|[a-z]\.[a-z]|::|->|://", re.IGNORECASE)
PASSWORD_BITS = 2.5
FUZZY = ("a password in an address", "a password or key that is assigned")


class Secrets(Scanning):
    """What looks like a key, a token or a password: a model that has learnt it may tell it to anyone.

    Keys must look random, so that those of manuals are passed over. What is found is never repeated.
    """

    kind: ClassVar[str] = "secrets"
    asks: ClassVar[str] = "Are there keys, tokens or passwords?"

    def find(self, text: str) -> list[Hit]:
        """What of it stands in a text."""
        found: list[Hit] = []
        if any(mark in text for mark in MARKS):
            found += _keys(text)
        if "eyJ" in text:
            found += [("a JSON web token", masked(one[0])) for one in JWT.finditer(text) if _is_jwt_header(one[1])]
        if " PRIVATE KEY" in text and PRIVATE_KEY.search(text):
            found.append(("a private key", "a block that begins with -----BEGIN"))
        if "://" in text and "@" in text:
            passwords = (one[1] for one in IN_URL.finditer(text))
            found += [(FUZZY[0], _length(one)) for one in passwords if _may_be_password(one)]
        if "=" in text or ":" in text:
            low = text.lower()
            if any(name in low for name in NAMES):
                passwords = (one[1] for one in ASSIGNED.finditer(text))
                found += [
                    (FUZZY[1], _length(one)) for one in passwords if _may_be_password(one) and not CODE.search(one)
                ]
        return found

    def tell(self, kind: str, n: int, places: tuple[Place, ...]) -> Found:
        """What only may be one is low."""
        what = f"{rows(n, self._seen.n)} {are(n, 'holds', 'hold')} what looks like {kind}: {self._scan.shown[kind]}"
        fix = "take it out of the rows; where it is real, have it made invalid where it was issued"
        return Found(self.kind, "low" if kind in FUZZY else "high", what, fix, n, places)


def _keys(text: str) -> Iterator[Hit]:
    for name, marks, pattern in PATTERNS:
        if any(mark in text for mark in marks):
            for one in pattern.finditer(text):
                if looks_random(one[0], KEY_BITS) and not PLACEHOLDER.search(one[0]):
                    yield name, masked(one[0])


def _is_jwt_header(part: str) -> bool:
    try:
        return "alg" in json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, TypeError):
        return False


def _may_be_password(value: str) -> bool:
    """Letters and digits that look random; words of prose, of code and of manuals are none."""
    has_both = any(one.isdigit() for one in value) and any(one.isalpha() for one in value)
    return has_both and looks_random(value, PASSWORD_BITS) and not PLACEHOLDER.search(value)


def _length(secret: str) -> str:
    return f"one of {len(secret)} characters"
