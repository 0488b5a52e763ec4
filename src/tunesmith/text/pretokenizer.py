"""How a byte-level BPE cuts a text before it merges: what tokenizer.json says, and llama.cpp's name for the same.

llama.cpp knows its cutting rules by name (`src/llama-vocab.cpp`). The table holds those whose rule stands in full in
tokenizer.json; it is read in both directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
MARKS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*")
SLASHED = rf" ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{SPACES}"

LLAMA3 = rf"{ENGLISH}|{LETTERS}|\p{{N}}{{1,3}}|{MARKS}|{SPACES}"
QWEN2 = rf"{ENGLISH}|{LETTERS}|\p{{N}}|{MARKS}|{SPACES}"
QWEN35 = rf"{ENGLISH}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{SPACES}"
TEKKEN = rf"{CASED[0]}|{CASED[1]}|\p{{N}}|{SLASHED}"
GPT4O = rf"{CASED[0]}{ENGLISH}?|{CASED[1]}{ENGLISH}?|\p{{N}}{{1,3}}|{SLASHED}"
SEED = rf"{ENGLISH}|{LETTERS}|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{SPACES}"
BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class Cut:
    """A cutting rule: steps in the order of tokenizer.json, and whether whole words are looked up before merging."""

    steps: tuple[str, ...]
    ignore_merges: bool = False


GPT2_RULE = "gpt2"  # the ByteLevel step with its own regex
DIGITS = "digits"  # every digit alone
NAMED: Mapping[str, Cut] = {
    "gpt-2": Cut((GPT2_RULE,)),
    "smollm": Cut((DIGITS, GPT2_RULE)),
    "llama-bpe": Cut((LLAMA3,), ignore_merges=True),
    "smaug-bpe": Cut((LLAMA3,)),
    "qwen2": Cut((QWEN2,)),
    "qwen35": Cut((QWEN35,)),
    "tekken": Cut((TEKKEN,), ignore_merges=True),
    "gpt-4o": Cut((GPT4O,)),
    "seed-coder": Cut((SEED,)),
    "bailingmoe": Cut((BAILING,)),
}
SAME_RULE: Mapping[str, str] = {
    "starcoder": "smollm",
    "refact": "smollm",
    "command-r": "smollm",
    "codeshell": "smollm",
    "exaone": "smollm",
    "phi-2": "gpt-2",
    "olmo": "gpt-2",
    "dbrx": "smaug-bpe",
    "llama3": "llama-bpe",
    "llama-v3": "llama-bpe",
    "falcon3": "llama-bpe",
    "pixtral": "llama-bpe",
    "lfm2": "llama-bpe",
    "stablelm2": "qwen2",
    "deepseek-r1-qwen": "qwen2",
    "megrez": "qwen2",
    "llama4": "gpt-4o",
}
"""Other names under which llama.cpp keeps a rule of the table."""


def name_of(tokenizer: Mapping[str, Any]) -> str | None:
    """llama.cpp's name for the rule of a tokenizer.json; None when it is none of the table.

    Text that is not in Unicode's composed form is normalised by some tokenizers (NFC) and never by llama.cpp.
    """
    model = tokenizer.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback") or model.get("dropout"):
        return None
    if (tokenizer.get("normalizer") or {"type": "NFC"})["type"] != "NFC":
        return None
    steps = _steps(tokenizer.get("pre_tokenizer"))
    if steps is None:
        return None
    merges_last = bool(model.get("ignore_merges"))
    return next((name for name, cut in NAMED.items() if cut == Cut(steps, merges_last)), None)


def _steps(pre: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    """The rule as `Cut.steps`; None when it holds a step that the table does not know."""
    if pre is None:
        return None
    parts = pre["pretokenizers"] if pre["type"] == "Sequence" else [pre]
    if not parts or parts[-1]["type"] != "ByteLevel" or parts[-1].get("add_prefix_space"):
        return None
    steps = [_step(part) for part in parts[:-1]] + ([GPT2_RULE] if parts[-1].get("use_regex", True) else [])
    return None if None in steps else tuple(step for step in steps if step is not None)


def _step(part: Mapping[str, Any]) -> str | None:
    if part["type"] == "Digits" and part.get("individual_digits"):
        return DIGITS
    if part["type"] == "Split" and part.get("behavior") == "Isolated" and not part.get("invert"):
        return part["pattern"].get("Regex")  # type: ignore[no-any-return]
    return None


def rule_of(name: str) -> Cut | None:
    """The rule behind a name of llama.cpp; None when the table does not have it."""
    return NAMED.get(SAME_RULE.get(name, name))


def as_json(cut: Cut) -> dict[str, Any]:
    """The `pre_tokenizer` part of a tokenizer.json for a rule."""
    parts: list[dict[str, Any]] = []
    for step in cut.steps:
        if step == DIGITS:
            parts.append({"type": "Digits", "individual_digits": True})
        elif step != GPT2_RULE:
            parts.append({"type": "Split", "pattern": {"Regex": step}, "behavior": "Isolated", "invert": False})
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": GPT2_RULE in cut.steps,
    }
    return {"type": "Sequence", "pretokenizers": [*parts, byte_level]} if parts else byte_level
