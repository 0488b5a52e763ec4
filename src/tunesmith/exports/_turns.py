"""An Ollama TEMPLATE from a Jinja chat template: found by asking the template, proved by comparing what both render.

A few conversations of marked words are rendered, and the text between the marks is what the template writes round each
turn. That becomes a Go template, which is kept only when it renders a whole battery of conversations byte for byte as
the tokenizer does. What a Go template cannot say (trimming, dates, turns rewritten by their content) fails there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from tunesmith.exports._go_template import joined, literal, render
from tunesmith.text.example import Message
from tunesmith.text.template import Text

SYSTEM, USER, ANSWER, AGAIN = "Marksystemmark", "Markusermark", "Markanswermark", "Markagainmark"
LAST = "eq (len (slice $.Messages $i)) 1"
NOT_LAST = "ne (len (slice $.Messages $i)) 1"


@dataclass(frozen=True)
class Derived:
    """A Go template with the system prompt that stands for a missing one; or why there is none."""

    template: str = ""
    system: str = ""
    why_not: str = ""


@dataclass(frozen=True)
class _Turns:
    """What stands round the turns; `None` where the template has no place for a system turn."""

    start: str  # before the first turn, where that is no system turn
    opening: str  # the same where it is one, if both share it
    user: tuple[str, str, str]  # before a user turn: the first of all, right after a system turn, any other
    user_end: str
    answer: tuple[str, str]
    system: tuple[str, str] | None
    in_first_user: str | None  # what parts the system words from the user's where they are put into the first user turn
    in_last_user: str | None  # the same where they are put into the last one
    ask: str  # what asks for an answer
    default_system: str


def derive(text: Text, *, bos_is_added: bool) -> Derived:
    """The Go template that renders every conversation as this tokenizer does, without BOS where the runtime adds it.

    Turns of one role that follow each other are compared as Ollama hands them over, joined; a conversation that ends
    with the assistant's words is compared as one that goes on with them.
    """
    template = text.tokenizer.chat_template
    if not isinstance(template, str):
        return Derived(why_not="there are several chat templates" if template else "there is no chat template")
    if "strftime_now" in template:
        return Derived(why_not="it writes today's date")
    bos = str(text.tokenizer.bos_token or "") if bos_is_added else ""
    turns = _infer(_Asked(text, bos))
    if turns is None:
        return Derived(why_not="what it writes round a turn depends on more than the turn's role")
    derived = Derived(_emit(turns), turns.default_system)
    wrong = next(_differences(derived, _Asked(text, bos)), "")
    return Derived(why_not=wrong) if wrong else derived


@dataclass(frozen=True)
class _Asked:
    """The tokenizer's template, asked without BOS; None where it refuses a conversation."""

    text: Text
    bos: str

    @property
    def eos(self) -> str:
        """The tokenizer's end of a text, which some templates write behind a conversation."""
        return str(self.text.tokenizer.eos_token or "")

    def __call__(self, messages: Sequence[Message], *, prompt: bool = True) -> str | None:
        from jinja2.exceptions import TemplateError

        try:
            return self.text.render(messages, prompt=prompt).removeprefix(self.bos)
        except (TemplateError, TypeError):
            return None

    def going_on(self, messages: Sequence[Message]) -> str | None:
        """With the last turn left open."""
        from jinja2.exceptions import TemplateError

        try:
            words = self.text.tokenizer.apply_chat_template(
                [dict(one) for one in messages], tokenize=False, continue_final_message=True
            )
        except (TemplateError, TypeError, ValueError):
            return None
        return str(words).removeprefix(self.bos)


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _cut(rendered: str | None, *marks: str) -> list[str] | None:
    """The text round the marks, which must each stand there once and in this order."""
    if rendered is None or any(rendered.count(mark) != 1 for mark in marks):
        return None
    pieces, rest = [], rendered
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found:
            return None
        pieces.append(before)
    return [*pieces, rest]


def _infer(ask: _Asked) -> _Turns | None:
    system, user, answer, again = (
        _turn(*one) for one in (("system", SYSTEM), ("user", USER), ("assistant", ANSWER), ("user", AGAIN))
    )
    talk = _cut(ask([user, answer, again]), USER, ANSWER, AGAIN)
    if talk is None:
        return None
    first, to_answer, to_user, asked = talk
    alone = _cut(ask([user], prompt=False), USER)
    answered = _cut(ask([user, answer], prompt=False), USER, ANSWER)
    user_end = _end(alone, (asked, to_answer), ask.eos)
    answer_end = _end(answered, (to_user,), ask.eos)
    other = to_user.removeprefix(answer_end)
    before = _System.of(ask, system, user, answer, again, first, other)
    return _Turns(
        start=before.start,
        opening=before.opening,
        user=(before.first_user, before.user_after, other),
        user_end=user_end,
        answer=(to_answer.removeprefix(user_end), answer_end),
        system=before.system,
        in_first_user=before.in_first_user,
        in_last_user=before.in_last_user,
        ask=asked.removeprefix(user_end),
        default_system=before.default,
    )


def _end(pieces: list[str] | None, followed: Sequence[str], eos: str) -> str:
    """What ends a turn: what stands behind the last one, EOS aside, where it also begins what follows such a turn."""
    behind = pieces[-1] if pieces else ""
    for end in (behind, behind.removesuffix(eos)):
        if all(one.startswith(end) for one in followed):
            return end
    shared = takewhile(lambda characters: len(set(characters)) == 1, zip(*followed, strict=False))
    return "".join(characters[0] for characters in shared)


@dataclass(frozen=True)
class _System:
    """How a conversation begins, with and without a system turn."""

    start: str
    opening: str
    first_user: str
    user_after: str
    system: tuple[str, str] | None = None
    in_first_user: str | None = None
    in_last_user: str | None = None
    default: str = ""

    @classmethod
    def of(
        cls, ask: _Asked, system: Message, user: Message, answer: Message, again: Message, first: str, other: str
    ) -> _System:
        """From conversations with a system turn; `first` and `other` stand before a first user turn and a later one."""
        shared = first.endswith(other)
        start = first.removesuffix(other) if shared else ""
        first_user = other if shared else first
        talk = ask([system, user, answer, again])
        begun = _cut(talk, SYSTEM, USER, ANSWER, AGAIN)
        if begun is None:
            folded = _cut(talk, USER, ANSWER, SYSTEM, AGAIN)
            parting = folded[3] if folded else None
            return cls("", start, first_user, first_user, in_last_user=parting)
        before, after = begun[:2]
        if before == first:
            return cls("", start, first_user, first_user, in_first_user=after)
        own_turn = bool(other) and after.endswith(other)
        ends, user_after = (after.removesuffix(other), other) if own_turn else (after, "")
        default = start[len(before) : len(start) - len(ends)] if _encloses(start, before, ends) else ""
        if default:
            return cls("", "", first_user, user_after, (before, ends), default=default)
        if start and before.startswith(start):
            return cls("", start, first_user, user_after, (before.removeprefix(start), ends))
        return cls(start, "", first_user, user_after, (before, ends))


def _encloses(text: str, begin: str, end: str) -> bool:
    return text.startswith(begin) and text.endswith(end) and len(text) > len(begin) + len(end)


def _emit(turns: _Turns) -> str:
    """The Go template. Pieces stand as they are; no trim marks, so that what is read is what is written."""
    first, after, other = turns.user
    folds = turns.in_first_user is not None
    tells_first, tells_after = first != other, folds or (turns.system is not None and after != other)
    out = [literal(turns.opening)]
    out += ["{{ $first := true }}"] * tells_first + ["{{ $after := false }}"] * tells_after
    out.append("{{ range $i, $_ := .Messages }}")
    if turns.start:
        out.append('{{ if and (eq $i 0) (ne .Role "system") }}' + literal(turns.start) + "{{ end }}")
    out.append('{{ if eq .Role "user" }}' + _emit_user(turns, tells_first, tells_after))
    if turns.system is not None:
        begin, end = (literal(one) for one in turns.system)
        marks = "{{ $after = true }}" * tells_after + "{{ $first = false }}" * tells_first
        out.append('{{ else if eq .Role "system" }}' + begin + "{{ .Content }}" + end + marks)
    elif folds:
        out.append('{{ else if eq .Role "system" }}{{ $after = true }}')
    begin, end = (literal(one) for one in turns.answer)
    out.append('{{ else if eq .Role "assistant" }}' + begin + "{{ .Content }}")
    out.append("{{ if " + NOT_LAST + " }}" + end + "{{ end }}{{ end }}" if end else "{{ end }}")
    if turns.ask:
        out.append("{{ if and (" + LAST + ') (ne .Role "assistant") }}' + literal(turns.ask) + "{{ end }}")
    return "".join([*out, "{{ end }}"])


def _emit_user(turns: _Turns, tells_first: bool, tells_after: bool) -> str:
    first, after, other = (literal(one) for one in turns.user)
    arms = [("$after", after)] * (tells_after and turns.system is not None) + [("$first", first)] * tells_first
    before = other
    if arms:
        before = "{{ if " + "{{ else if ".join(f"{name} }}}}{words}" for name, words in arms)
        before += "{{ else }}" + other + "{{ end }}"
    if turns.in_first_user is not None:
        before += "{{ if $after }}{{ $.System }}" + literal(turns.in_first_user) + "{{ end }}"
    if turns.in_last_user is not None:
        before += "{{ if and (" + LAST + ") $.System }}{{ $.System }}" + literal(turns.in_last_user) + "{{ end }}"
    before += "{{ $first = false }}" * tells_first + "{{ $after = false }}" * tells_after
    return before + "{{ .Content }}" + literal(turns.user_end)


BATTERY: Mapping[str, Sequence[Message]] = {
    "a question": [_turn("user", "What is the capital of France?")],
    "a system turn": [_turn("system", "Be brief."), _turn("user", "Hello")],
    "three turns": [_turn("user", "One"), _turn("assistant", "Two"), _turn("user", "Three")],
    "a system turn and three more": [
        _turn("system", "Be brief."),
        _turn("user", "One"),
        _turn("assistant", "Two"),
        _turn("user", "Three"),
    ],
    "five turns": [_turn(role, f"{role} speaks") for role in ("user", "assistant", "user", "assistant", "user")],
    "two turns of one role": [_turn("user", "One"), _turn("user", "Two")],
    "two system turns": [_turn("system", "One."), _turn("system", "Two."), _turn("user", "Three")],
    "a system turn in the middle": [
        _turn("user", "One"),
        _turn("assistant", "Two"),
        _turn("system", "Three."),
        _turn("user", "Four"),
    ],
    "a system turn alone": [_turn("system", "Be brief.")],
    "an answer first": [_turn("assistant", "Hello!"), _turn("user", "One")],
    "spaces round a user turn": [_turn("user", "  one two \n")],
    "spaces round a system turn": [_turn("system", "\n Be brief. "), _turn("user", "Hello")],
    "spaces round an answer": [_turn("user", "One"), _turn("assistant", " Two\n"), _turn("user", "Three")],
    "an empty user turn": [_turn("user", "")],
    "an empty system turn": [_turn("system", ""), _turn("user", "Hello")],
    "an empty answer": [_turn("user", "One"), _turn("assistant", ""), _turn("user", "Three")],
    "words of many scripts": [_turn("user", "naïve café, 東京, 🙂 \u00a0\u200d|")],
    "marks of template languages": [_turn("user", '{{ .System }} {% if x %} <b>&amp;</b> "it\'s" \\n $1 `x`')],
    "thoughts in an answer": [
        _turn("user", "One"),
        _turn("assistant", "<think>\nhm\n</think>\n\nTwo"),
        _turn("user", "Three"),
    ],
    "an answer that is gone on with": [_turn("user", "One"), _turn("assistant", "Two and")],
}
"""Conversations in which templates part. Those that the tokenizer's own template refuses are left out."""


def _differences(derived: Derived, ask: _Asked) -> Iterator[str]:
    for name, messages in BATTERY.items():
        wanted = ask.going_on(messages) if messages[-1]["role"] == "assistant" else ask(joined(messages))
        if wanted is None:
            continue
        if derived.system and messages[0]["role"] != "system":
            messages = [_turn("system", derived.system), *messages]
        if not _renders(derived.template, messages, wanted):
            yield f"{name}: a Go template cannot render it as this one does"


def _renders(template: str, messages: Sequence[Message], wanted: str) -> bool:
    try:
        return render(template, messages) == wanted
    except ValueError:  # the words of a turn make the template one that cannot be read
        return False
