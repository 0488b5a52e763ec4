"""Writes the demo's rows: what a guest says at a coffee counter, and the order as JSON.

`python -m tunesmith.orders.make_data` writes train.jsonl and test.jsonl beside this file, always the same. No row of
the test file, and no order in it, stands in the other.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith import files

SEED = 7
N_TRAIN, N_TEST = 500, 60
NUMBERS = {1: ("a", "one", "1"), 2: ("two", "2", "a couple of"), 3: ("three", "3"), 4: ("four", "4"), 5: ("five", "5")}
SIZES = ("small", "medium", "large")
SIZE_WORDS = {"small": ("small", "little"), "medium": ("medium", "regular"), "large": ("large", "big")}
DRINKS = ("latte", "espresso", "cappuccino", "mocha", "green tea", "black tea", "hot chocolate", "lemonade")
FOODS = ("muffin", "croissant", "bagel", "cookie", "brownie", "scone", "sandwich", "waffle")
PLURALS = {"espresso": "espressos", "sandwich": "sandwiches", "cookie": "cookies", "scone": "scones"}
OPENINGS = ("", "", "", "hi, ", "hello, ", "hey, ", "um, ", "morning! ")
ASKING = ("can i get {}", "i would like {}", "i'd like {}", "could we have {}", "{}", "{}", "give me {}", "i need {}")
ENDINGS = ("", "", " please", " please", ", thanks", ", thank you")
TO_GO = (" to go", " to take away", " for the road")
HERE = (" for here", " to eat in", ", we are staying", "")


def order(chance: random.Random) -> dict[str, Any]:
    """What is wanted: one thing or two, and whether they leave the shop."""
    names = chance.sample([*DRINKS, *FOODS], chance.choices((1, 2), (2, 1))[0])
    items = []
    for name in names:
        item: dict[str, Any] = {"n": chance.choices((1, 2, 3, 4, 5), (5, 4, 2, 1, 1))[0], "item": name}
        if name in DRINKS and chance.random() < 0.6:
            item["size"] = chance.choice(SIZES)
        items.append(item)
    return {"items": items, "to_go": chance.random() < 0.5}


def said(wanted: dict[str, Any], chance: random.Random) -> str:
    """How a guest may say it."""
    things = [_thing(item, chance) for item in wanted["items"]]
    where = chance.choice(TO_GO if wanted["to_go"] else HERE)
    words = chance.choice(ASKING).format(" and ".join(things)) + where + chance.choice(ENDINGS)
    return chance.choice(OPENINGS) + words


def _thing(item: dict[str, Any], chance: random.Random) -> str:
    count, name = item["n"], item["item"]
    number = chance.choice(NUMBERS[count])
    size = chance.choice(SIZE_WORDS[item["size"]]) + " " if "size" in item else ""
    if count > 1:
        name = PLURALS.get(name, f"{name}s")
    if number == "a" and (size or name)[0] in "aeiou":
        number = "an"
    return f"{number} {size}{name}"


def rows(n: int, chance: random.Random, taken: set[str]) -> Iterator[tuple[str, str]]:
    """Pairs of words and JSON; none of the words, and none of the orders in `taken`, comes twice."""
    seen: set[str] = set()
    while len(seen) < n:
        wanted = order(chance)
        words, answer = said(wanted, chance), json.dumps(wanted)
        if words not in seen and answer not in taken:
            seen.add(words)
            yield words, answer


def main() -> None:
    """Write both files."""
    chance = random.Random(SEED)
    test = list(rows(N_TEST, chance, set()))
    train = list(rows(N_TRAIN, chance, {answer for _, answer in test}))
    for name, pairs in (("train", train), ("test", test)):
        turns = (
            [{"role": "user", "content": words}, {"role": "assistant", "content": answer}] for words, answer in pairs
        )
        lines = "".join(json.dumps({"messages": messages}) + "\n" for messages in turns)
        files.write_text(Path(__file__).parent / f"{name}.jsonl", lines)


if __name__ == "__main__":
    main()
