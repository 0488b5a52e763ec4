"""What of a conversation a chat template does not write.

Where the words of an answer are lost, the row cannot be learnt from. Where something is lost that the template has no
place for (thoughts, tools), the rest still can be, and the person is told how many rows it concerns.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from tunesmith.text.example import Example, Message, Tokens
from tunesmith.text.template import Text

LOST = "the template does not write this turn as it stands"
WORDS_BESIDE_CALLS = "the template writes the calls of this turn without its words"


def lost_words(turn: Message, answer: str) -> str:
    """Why `answer` does not say what the turn says, its thoughts aside; empty where it does."""
    words = str(turn.get("content") or "").rpartition("</think>")[2].strip()
    calls = turn.get("tool_calls", ())
    unsaid = [one for call in calls for one in _parts(call["function"]) if not _is_said(one, answer)]
    if words not in answer:
        return WORDS_BESIDE_CALLS if calls and not unsaid else LOST
    if unsaid:
        return f"the template does not write {unsaid[0]!r:.40} of what this turn calls"
    return "" if answer.strip() else LOST


def _parts(value: object) -> Iterator[str | float]:
    """The names, texts and numbers in a call."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _parts(inner) if key in ("name", "arguments") else (str(key), *_parts(inner))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _parts(inner)
    elif isinstance(value, str | float | int) and not isinstance(value, bool):
        yield value


def _is_said(part: str | float, answer: str) -> bool:
    """Whether it is there, as it is or as JSON, perhaps as JSON inside JSON."""
    if str(part).strip() in answer:
        return True
    bare = answer.replace("\\", "")
    spelled = (json.dumps(part, ensure_ascii=False), json.dumps(part))
    return any(one.strip('"').strip().replace("\\", "") in bare for one in spelled)


def unwritten(example: Example, text: Text, made: Sequence[Tokens]) -> list[str]:
    """The keys of the row that are in nothing of what was made of it, although the answers are."""
    lost = []
    thoughts = [_thoughts(turn) for turn, learns in zip(example.messages, example.learn, strict=True) if learns]
    if any(thoughts):
        learnt = _composed("".join(text.spell(_learnt(row)) for row in made))
        if any(_composed(one) not in learnt for one in thoughts):
            lost.append("thoughts (reasoning_content, <think>)")
    if example.tools and not _tells_of_tools(example, text):
        lost.append("tools")
    return lost


def _learnt(row: Tokens) -> list[int]:
    return [one for one, weight in zip(row.ids, row.weights, strict=True) if weight]


def _tells_of_tools(example: Example, text: Text) -> bool:
    asked = example.messages[: example.learn.index(True)]
    try:
        return text.render(asked, example.tools, prompt=True) != text.render(asked, prompt=True)
    except Exception:  # noqa: BLE001  # a template is a program of someone else: without tools it may refuse
        return True


def _thoughts(turn: Message) -> str:
    inside = str(turn.get("content") or "").rpartition("</think>")[0].rpartition("<think>")[2]
    return str(turn.get("reasoning_content") or inside).strip()


def _composed(words: str) -> str:
    """As a tokenizer may have normalised it."""
    return unicodedata.normalize("NFC", words)
