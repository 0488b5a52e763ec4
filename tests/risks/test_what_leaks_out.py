"""Secrets and personal data. What looks real is put together here, so that no scanner of this repository finds it."""

from __future__ import annotations

import base64
import json

import pytest

from tiny.looked import chat, lines, looked
from tunesmith.risks._numbers import iban, is_card, is_public_address

RANDOM = "q7Zx2LmW9vKt4RbY8nHs3JdF6gPc1TkQ5uVw0XyAeBiCoDlEzMrNpGfUhSjIaO"
BASE32 = "Q7ZX2LMW5VKT4RBY6NHS3JDF"


def part(length: int) -> str:
    return RANDOM[:length]


def jwt(head: str) -> str:
    first, second = (base64.urlsafe_b64encode(one.encode()).decode().rstrip("=") for one in (head, '{"sub": "12345"}'))
    return f"{first}.{second}.{part(40)}"


SECRETS = {
    "an AWS access key": "AK" + "IA" + BASE32[:16],
    "a Google API key": "AI" + "za" + part(35),
    "a GitHub token": "gh" + "p_" + part(36),
    "a GitLab token": "glp" + "at-" + part(20),
    "a Slack token": "xo" + "xb-" + "1234095871-" + part(24),
    "an API key": "sk" + "-" + part(48),
    "a Hugging Face token": "h" + "f_" + part(34),
    "a Stripe key": "sk" + "_live_" + part(24),
    "a JSON web token": jwt('{"alg": "HS256", "typ": "JWT"}'),
    "a private key": "-----BEGIN RSA PRIV" + "ATE KEY-----\n" + part(60) + "\n" + part(40),
    "a password in an address": "postgres://admin:" + "hk7Rw2Lq9" + "@db.acme.org/main",
    "a password or key that is assigned": "DB_PASS" + "WORD=" + "hk7Rw2Lq9z",
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_told_by_its_kind_and_never_repeated(name: str) -> None:
    secret = SECRETS[name]
    rows = [chat("how do I log in", "ask the desk"), chat(f"I use {secret} for it", "do not")]
    (found,) = looked("secrets", rows)
    assert name in found.what
    assert lines(found) == [2]
    assert secret not in found.what
    assert secret[4:12] not in found.what
    assert found.severity == ("low" if "password" in name else "high")


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_found_wherever_it_stands_in_a_row(name: str) -> None:
    secret = SECRETS[name]
    rows = [chat("a", secret), chat("b", "c", system=f"you know {secret}"), chat("d", "e", system=f"you know {secret}")]
    (found,) = looked("secrets", rows)
    assert (found.n_rows, lines(found)) == (3, [1, 2, 3])


NO_SECRETS = [
    "AK" + "IAIOSFODNN7" + "EXAMPLE",  # of a manual
    "AK" + "IA" + BASE32[:15],  # too short
    "AK" + "IA" + BASE32[:17],  # too long
    "AK" + "IA" + "A" * 16,
    "gh" + "p_" + "x" * 36,
    "sk" + "-" + "your-api-key-here-please-replace",
    "sk-estimator-id-3 is a class in a page, and task-" + part(40) + " a name",
    "h" + "f_" + "abcdefghijklmnopqrstuvwxyzabcdefgh",
    "xo" + "xo, with love",
    jwt('{"sub": "no algorithm"}'),
    "-----BEGIN PRIV" + "ATE KEY-----\n...\n-----END PRIV" + "ATE KEY-----",
    "postgres://user:" + "password@localhost/db",
    "http://proxy.acme.org:8080/a@b",
    "https://acme.org/@person/status:1234567a",
    "password = " + "getpass.getpass()",
    "pass" + "word: must have at least 8 characters",
    "api_key=" + "os.environ['KEY1']",
    "pass" + "word=" + "changeme123",
    "secret=" + "${VAULT_SECRET_1}",
    "The secret: nobody knows1",
]


@pytest.mark.parametrize("text", NO_SECRETS)
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    assert looked("secrets", [chat(f"I use {text} for it", "yes")]) == ()


CARD = "4556" + "7375" + "8689" + "9855"
BANK = "DE89" + "3704" + "0044" + "0532" + "0130" + "00"
PERSONAL = {
    "the number of a payment card": " ".join(CARD[at : at + 4] for at in range(0, 16, 4)),
    "a bank account (IBAN)": " ".join(BANK[at : at + 4] for at in range(0, 22, 4)),
    "an e-mail address": "maria.rossi" + "@" + "posta.it",
    "a telephone number": "+49 30 90" + "18 20 37",
    "the address of a machine (IP)": "93.184." + "216.34",
}


@pytest.mark.parametrize("name", PERSONAL)
def test_personal_data_is_told_by_its_kind_and_never_repeated(name: str) -> None:
    value = PERSONAL[name]
    (found,) = looked("personal_data", [chat("a", "b"), chat(f"Mine is {value}. And yours?", "none")])
    assert name in found.what
    assert lines(found) == [2]
    assert value not in found.what
    assert value[5:12] not in found.what
    assert found.severity == ("high" if "card" in name or "bank" in name else "low")


@pytest.mark.parametrize(
    "text",
    [
        CARD[:-1] + "4",  # the last digit is wrong
        "4111 1111 1111 1111",  # for tests
        "0000 0000 0000 0000",
        "45 56737586899 855",  # no card is printed so
        "1" + CARD,
        CARD + ".5",
        BANK[:-1] + "1",
        "XX" + BANK[2:],
        "info" + "@" + "acme.org",
        "maria" + "@" + "example.com",
        "logo" + "@" + "2x.png",
        "@property.setter and a@b",
        "git" + "@" + "github.com:acme/acme.git",
        "version 1.10.0.2 of 2026",
        "192.168.1.20 and 10.0.0.1 and 127.0.0.1",
        "1.2.3.4.5 and 300.1.2.3",
        "12:30:45 and std::vector and a:b:c:d:e:f",
        "(212) 555-0143",
        "212-555-0143",
        "10 + 21 + 23 = 54, and 5 650 000 - 1 000 000",
        "+9+28=37, or +1000",
        "3.14159265358979323846",
        "from 2001-09-11 to 2026-11-28",
        "0123456789012345678901234567890123456789",
        "978-3-16-148410-0",
    ],
)
def test_what_is_no_one_s_is_left_alone(text: str) -> None:
    assert looked("personal_data", [chat(f"Mine is {text} today", "none")]) == ()


@pytest.mark.parametrize(
    "written", ["(415) " + "682-7391", "415-682-" + "7391", "415.682." + "7391", "+1 415 682 " + "7391", "+14156827391"]
)
def test_telephones_in_the_usual_forms_are_found(written: str) -> None:
    assert len(looked("personal_data", [chat(f"call {written}, please", "yes")])) == 1


def test_cards_of_all_kinds_have_their_length_and_last_digit() -> None:
    amex = "3714" + "496353" + "98456"
    assert is_card(CARD)
    assert is_card("-".join(CARD[at : at + 4] for at in range(0, 16, 4)))
    assert not is_card(CARD[:12])
    assert not is_card(amex[:-1] + "5")
    assert sum(is_card(amex[:-1] + str(last)) for last in range(10)) == 1


def test_an_account_number_ends_where_its_country_says() -> None:
    assert iban(BANK + " WHAT IS") == BANK
    assert iban(BANK + "7") == ""
    assert iban(BANK[:-2]) == ""


def test_public_addresses_of_both_versions() -> None:
    assert is_public_address("2606:2800:220:1:248:1893:25c8:1946")
    assert not is_public_address("2001:db8::1")
    assert not is_public_address("fe80::1ff:fe23:4567:890a")
    (found,) = looked("personal_data", [chat("it is at 2606:2800:220:1:248:1893:25c8:1946", "yes")])
    assert "(IP)" in found.what


def test_secrets_in_the_arguments_of_calls_and_in_tools_are_found() -> None:
    from tunesmith.text.example import Example

    secret = SECRETS["an AWS access key"]
    call = {"type": "function", "function": {"name": "login", "arguments": {"key": secret}}}
    turns = ({"role": "user", "content": "log in"}, {"role": "assistant", "content": "", "tool_calls": [call]})
    tool = {"type": "function", "function": {"name": "login", "description": json.dumps(secret)}}
    rows = [Example(turns, (False, True)), Example(chat("a", "b").messages, (False, True), (tool,))]
    (found,) = looked("secrets", rows)
    assert lines(found) == [1, 2]
