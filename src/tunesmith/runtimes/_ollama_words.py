"""Ollama names tokens by their text alone; this finds their ids again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunesmith.text.template import Text

BROKEN = "\ufffd"  # what half a character decodes to


def ids_by_text(text: Text) -> Mapping[str, int]:
    """The id of each text that exactly one token has, as llama.cpp writes tokens: control tokens write nothing."""
    words = text.tokenizer
    before = text.encode("a")[-1:]  # behind a token, since some tokenizers drop a leading space
    cut = len(words.decode(before, clean_up_tokenization_spaces=False))
    pairs = [[*before, one] for one in range(len(words))]
    decoded = words.batch_decode(pairs, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    found: dict[str, int] = {}
    twice = {""}
    for one, whole in enumerate(decoded):
        word = whole[cut:]
        if word in found:
            twice.add(word)
        found[word] = one
    return {word: one for word, one in found.items() if word not in twice and BROKEN not in word}


def listed(
    told: Sequence[Mapping[str, object]], ids: Mapping[str, int], *, skip_unwritten: bool = False
) -> dict[int, float]:
    """Log-probabilities by id, from the likeliest down to the first token that its text does not tell apart.

    Cutting there keeps the list complete: every token that is not in it is less likely than all that are. With
    `skip_unwritten` those that write nothing are passed over: the list is then complete among the others. Equal
    numbers stay in Ollama's order, which is that of the logits even where float32 has rounded all of them to nothing.
    """
    found: dict[int, float] = {}
    for one in sorted(told, key=lambda one: -float(str(one["logprob"]))):
        word = str(one["token"])
        if skip_unwritten and not word:
            continue
        if word not in ids:
            break
        found[ids[word]] = float(str(one["logprob"]))
    return found
