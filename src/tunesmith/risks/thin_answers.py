from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from tunesmith.risks._contract import N_PLACES, Found, Place
from tunesmith.risks._row import Row
from tunesmith.risks._seen import Seen
from tunesmith.risks._words import rows

ONE_WORD = re.compile(r"\W{0,3}\w{0,30}\W{0,3}")
FIRST_BEYOND_ALPHABETS = "\u0e00"  # from here on scripts stand that part no words by blanks
AI = r"(?:(?:large )?(?:ai |artificial intelligence )?(?:language model|assistant)|ai|artificial intelligence)"
CANNOT = r"(?:can['\u2019]?t|cannot|can not|am unable to|am not able to|won['\u2019]?t)"
REFUSAL = re.compile(
    rf"\bas an? {AI}\b(?:,| i\b)|\b(?:i['\u2019]?m|i am) (?:just |only )?an? {AI}\b"
    rf"|\b(?:sorry|afraid),? (?:but )?(?:that )?i {CANNOT}|\bi {CANNOT} (?:assist|help|comply|fulfil|provide|answer)\b"
)
PARTS = ("as a", "i'm", "i\u2019m", "i am", "sorry", "afraid", "i can", "i won")  # one of them is in each refusal
HEAD = 200  # characters of an answer in which it refuses
SOME, CUT = 0.2, 0.05  # shares of the rows: beyond them it is how these answers are
HIGH = 0.05
N_LONG, LONG, LONG_LINE = 50, 80, 40  # answers, and characters, from which ends can be told

SAID = {
    "empty": ("says nothing", "say nothing", "write the answer, or remove the row"),
    "word": (
        "answers with one word where others say more",
        "answer with one word where others say more",
        "see whether they were cut",
    ),
    "echo": ("only repeats what was asked", "only repeat what was asked", "write the answer, or remove the row"),
    "refusal": (
        "refuses, or says that it is a language model",
        "refuse, or say that they are a language model",
        "remove them, unless the model is to refuse",
    ),
    "cut": ("ends in the middle of a sentence", "end in the middle of a sentence", "see whether they were cut"),
}


class ThinAnswers:
    """Answers from which little can be learnt: empty, one word among long ones, echoes, refusals, cut ones."""

    kind: ClassVar[str] = "thin_answers"
    asks: ClassVar[str] = "Are there answers from which little can be learnt?"

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._places: dict[str, list[Place]] = {kind: [] for kind in SAID}
        self._n = dict.fromkeys(SAID, 0)
        self._n_answers = self._n_long = 0

    def see(self, row: Row) -> None:
        """Looks at the last answer that is learnt."""
        if not row.example.messages:
            return
        self._n_answers += 1
        answer = row.answer
        if not answer:
            self._add("empty", row, not row.example.messages[row.n_before].get("tool_calls"))
            return
        self._add("word", row, len(answer) < 40 and _is_one_word(answer))
        self._add("echo", row, _is_echo(answer, row))
        self._add("refusal", row, _is_refusal(answer[:HEAD].lower()))
        if len(answer) >= LONG:
            self._n_long += 1
            self._add("cut", row, _is_cut(answer))

    def _add(self, kind: str, row: Row, is_so: bool) -> None:
        if is_so:
            self._n[kind] += 1
            if len(self._places[kind]) < N_PLACES:
                self._places[kind].append(row.where)

    def found(self) -> tuple[Found, ...]:
        """One for each kind, but for what most answers are: that is the task."""
        return tuple(self._found())

    def _found(self) -> Iterator[Found]:
        n_all, n_long = self._n_answers, self._n_long
        told = {
            "empty": True,
            "word": not self._seen.labels.is_set and self._n["word"] <= SOME * n_all,
            "echo": not self._seen.labels.is_set,
            "refusal": not self._seen.labels.is_set,
            "cut": n_long >= max(N_LONG, SOME * n_all) and self._n["cut"] <= CUT * n_long,
        }
        for kind, (one, many, fix) in SAID.items():
            n = self._n[kind]
            if n and told[kind]:
                is_high = kind in ("empty", "echo") and n >= HIGH * n_all
                what = f"the answer of {rows(n, n_all)} {one}" if n == 1 else f"the answers of {rows(n, n_all)} {many}"
                yield Found(self.kind, "high" if is_high else "low", what, fix, n, tuple(self._places[kind]))


def _is_one_word(answer: str) -> bool:
    if not ONE_WORD.fullmatch(answer):
        return False
    return max(answer) < FIRST_BEYOND_ALPHABETS or len(answer) <= 3


def _is_refusal(begins: str) -> bool:
    return any(part in begins for part in PARTS) and REFUSAL.search(begins) is not None


def _is_echo(answer: str, row: Row) -> bool:
    before = row.before[-1:]
    if not before or before[0]["role"] != "user":
        return False
    asked: str = before[0]["content"]
    if abs(len(asked) - len(answer)) > 8:
        return False
    return asked.strip().casefold().rstrip(".!? ") == answer.casefold().rstrip(".!? ")


def _is_cut(answer: str) -> bool:
    """The last line is long, is no item of a list, and ends with a letter or a comma."""
    line = answer[answer.rfind("\n") + 1 :].lstrip()
    is_prose = len(line) >= LONG_LINE and line[0].isalpha() and line.count(" ") >= 5
    return is_prose and (line[-1].isalpha() or line[-1] in ",;") and line[-1] < FIRST_BEYOND_ALPHABETS
