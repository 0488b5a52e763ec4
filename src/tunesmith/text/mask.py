"""Which tokens of a conversation are learnt: what the model has to say after the prompt that it will be given.

No template is asked to mark its answers. For each assistant turn the template renders the prompt of that turn, as it
will at inference, and then the conversation up to and with the turn; what follows the prompt, up to and with the end
token, is learnt. So the context of each learnt token is, id by id, what a runtime will feed, also where a template
rewrites turns that are past (a dropped chain of thought): such a conversation becomes several sequences.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tunesmith.errors import DataError, Fault
from tunesmith.text.example import Example, Message, Tokens
from tunesmith.text.lost import WORDS_BESIDE_CALLS, lost_words
from tunesmith.text.template import Text

SENTINEL = "\u2e28answer\u2e29"  # stands for a turn's content where that has to be found again


def weigh_turns(example: Example, text: Text) -> list[Tokens]:
    """The conversation as one sequence, or several where the template rewrites the past.

    Each learnt turn has weight 1 in exactly one sequence, on its words and its end token; all else has weight 0.
    Nothing stands after the last learnt token.

    Raises:
        DataError: `objective/template-refuses`, `objective/no-span`, `objective/end-token-inside` or
            `objective/no-end-token`, each cause once, at the first turn that it concerns.
    """
    made: list[Tokens] = []
    faults: dict[tuple[str, str], Fault] = {}  # one a cause: what stands in the way of each turn is said of the first
    for number, learnt in enumerate(example.learn):
        if not learnt:
            continue
        try:
            prompt, answer = _turn(example, number, text)
        except DataError as error:
            for fault in error.faults:
                faults.setdefault((fault.code, fault.what), fault)
            continue
        _append(made, prompt, answer)
    if faults:
        raise DataError(list(faults.values()))
    return made


def _append(made: list[Tokens], prompt: Sequence[int], answer: Sequence[int]) -> None:
    """Go on with the last sequence when the prompt does; else begin another."""
    before: tuple[float, ...] = ()
    if made and tuple(prompt[: len(made[-1].ids)]) == made[-1].ids:
        before = made.pop().weights
    zeros = (0.0,) * (len(prompt) - len(before))
    weights = (*before, *zeros, *((1.0,) * len(answer)))
    made.append(Tokens((*prompt, *answer), weights if prompt else (0.0, *weights[1:])))


def _turn(example: Example, number: int, text: Text) -> tuple[list[int], list[int]]:
    """The ids of the prompt of a turn, and those of what is learnt after it."""
    _no_end_inside(example, number, text)
    past, turn = example.messages[:number], example.messages[number]
    try:
        prompt = text.render(past, example.tools, prompt=True)
        full = text.render((*past, turn), example.tools)
        answer = (
            full[len(prompt) :] if full.startswith(prompt) else _answer_elsewhere(example, number, text, prompt, full)
        )
    except Exception as error:  # a template is a program of someone else: it may raise anything
        if isinstance(error, DataError):
            raise
        raise DataError(_refusal(example, number, error)) from None
    lost = lost_words(turn, answer)
    if lost:
        fix = "empty its content, set weight: 0 on it, or choose another base" if lost == WORDS_BESIDE_CALLS else ""
        raise DataError(_no_span(example, number, lost, fix))
    ids = text.encode(prompt)
    return ids, _until_end(example, number, text, ids, prompt, answer)


def _until_end(example: Example, number: int, text: Text, ids: list[int], prompt: str, answer: str) -> list[int]:
    """The ids of the answer up to and with its end token, which is added where the template writes none."""
    learnt = _after(text, ids, prompt, answer)
    if learnt is None:
        raise DataError(_no_span(example, number, "the tokens at the border of this turn cannot be told apart"))
    for at, one in enumerate(learnt):
        if one in text.end_ids:
            return learnt[: at + 1]
    closed = _after(text, ids, prompt, answer.rstrip())
    return [*(learnt if closed is None else closed), end_of(text)]


def end_of(text: Text) -> int:
    """The token that is added where the template, or a raw text, brings no end of its own."""
    if text.end_id is None:
        what = "neither the template nor the tokenizer has an end token, so the model would never learn to stop"
        fix = "set eos_token in the base's tokenizer_config.json"
        raise DataError(Fault("objective/no-end-token", what, fix=fix))
    return text.end_id


def _after(text: Text, ids: list[int], prompt: str, answer: str) -> list[int] | None:
    """The ids of `answer` after those of `prompt`.

    Where one token would reach over the border, the answer is encoded by itself: at inference the prompt ends there.
    """
    whole = text.encode(prompt + answer)
    if whole[: len(ids)] == ids:
        return whole[len(ids) :]
    want = text.spell(whole)
    for lead in ("", "\n", *text.end_tokens):  # after a lead, no tokenizer adds a space of its own
        n_lead = len(text.encode(lead)) if lead else 0
        tail = text.encode(lead + answer)[n_lead:]
        if text.spell([*ids, *tail]) == want:
            return tail
    return None


def _answer_elsewhere(example: Example, number: int, text: Text, prompt: str, full: str) -> str:
    """What is learnt after `prompt` when the full conversation does not begin with it.

    Either the template asks for an answer in other words than it records one (an opened chain of thought), or it writes
    the past in another way once the answer is there (a system text that moves).
    """
    past, turn = example.messages[:number], example.messages[number]
    marked = {"role": turn["role"], "content": SENTINEL}
    before, found, _ = text.render((*past, marked), example.tools).partition(SENTINEL)
    if not found:
        raise DataError(_no_span(example, number, "the template writes no answer"))
    history = text.render(past, example.tools)
    told = full[len(before) :] if full.startswith(before) else None
    if prompt.startswith(history) and before.startswith(history):
        answer = _in_other_words(turn, prompt[len(history) :], before[len(history) :], told)
        problem = "the template asks for an answer in other words than it records one"
    else:
        answer = _moved(before, prompt[len(history) :] if prompt.startswith(history) else "", prompt, told)
        problem = "the template writes the conversation anew when the answer is there"
    if answer is None:
        raise DataError(_no_span(example, number, problem))
    return answer


def _in_other_words(turn: Message, asked: str, header: str, told: str | None) -> str | None:
    """The answer after a prompt that ends in `asked`, where its record has `header`, and then `told`."""
    _, opened, begun = asked.rpartition("<think>")
    if opened and "</think>" not in begun:
        if told is not None and "</think>" in header:
            return "</think>" + header.rpartition("</think>")[2] + told
        return _with_thoughts(turn, begun, told) if told is not None else None
    same = next((at for at, (one, two) in enumerate(zip(asked, header, strict=False)) if one != two), len(header))
    return told if not header[same:].strip() else None


def _with_thoughts(turn: Message, begun: str, told: str) -> str:
    """What follows an opened thought whose record is dropped: the row's own thoughts or none, the close, the answer."""
    words = str(turn.get("content") or "")
    inside, closed, rest = words.rpartition("</think>")
    said = (rest if closed else words).strip()
    thoughts = str(turn.get("reasoning_content") or inside.rpartition("<think>")[2])
    ending = told[told.rfind(said) + len(said) :] if said else told.lstrip()
    opening = "" if begun.endswith("\n") else "\n"
    return f"{opening}{thoughts.strip()}\n</think>\n\n{said}{ending}"


def _moved(before: str, asked: str, prompt: str, told: str | None) -> str | None:
    """The answer where the past was written anew: what asks for it must stand, as it was asked, right before it."""
    asked = asked or prompt[-8:]
    at = before.rfind(asked)
    between = before[at + len(asked) :]
    return between + told if told is not None and at >= 0 and not between.strip() else None


def _no_end_inside(example: Example, number: int, text: Text) -> None:
    turn = example.messages[number]
    told = [turn.get("content"), turn.get("reasoning_content"), turn.get("tool_calls")]
    words = json.dumps(told, ensure_ascii=False)
    inside = next((end for end in text.end_tokens if end in words), None)
    if inside is None:
        return
    what = f"the answer holds {inside!r}, which the tokenizer reads as the end of an answer"
    fix = f"take it out, or write it apart, such as {inside[:1]} {inside[1:]}"
    raise DataError(Fault("objective/end-token-inside", what, fix=fix, **_at(example, number)))


def _refusal(example: Example, number: int, error: Exception) -> Fault:
    what = f"the base's chat template refuses this conversation: {error or type(error).__name__}"
    fix = _cure(example, str(error))
    return Fault("objective/template-refuses", what, fix=fix, **_at(example, number))


def _cure(example: Example, said: str) -> str:
    said = said.lower()
    roles = [message["role"] for message in example.messages]
    talk = [role for role in roles if role != "system"]
    if "altern" in said and any(role != ("user", "assistant")[at % 2] for at, role in enumerate(talk)):
        return "let user and assistant take turns, the user first, and join neighbours of one role"
    if "system" in roles and ("system" in said or "altern" in said):
        return "put the system text at the head of the first user message"
    if "length 9" in said:
        return "give each call an id of nine letters and digits, and its answer the same tool_call_id"
    return "change the row to what this base takes, or choose another base"


def _no_span(example: Example, number: int, what: str, fix: str = "") -> Fault:
    fix = fix or "set weight: 0 on this turn, remove the row, or choose another base"
    return Fault("objective/no-span", what, fix=fix, **_at(example, number))


def _at(example: Example, number: int) -> dict[str, Any]:
    key = f"messages[{number + example.n_left_out}]"
    return {"file": example.file, "line": example.line or None, "key": key}
