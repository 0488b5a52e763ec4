from __future__ import annotations

from tunesmith.risks._contract import Place
from tunesmith.risks._looking import Looking
from tunesmith.text.example import Example


def chat(ask: str, answer: str, line: int) -> Example:
    turns = ({"role": "user", "content": ask}, {"role": "assistant", "content": answer})
    return Example(turns, (False, True), file="rows.jsonl", line=line)


def test_later_copies_are_told_and_may_be_dropped() -> None:
    looking = Looking()
    for line, ask in enumerate(("a", "b", "a", "c", "a"), 1):
        looking.see(chat(ask, f"answer to {ask}", line))
    (found,) = [one for one in looking.found() if one.risk == "duplicates"]
    assert found.n_rows == 2
    assert found.drop == found.places == (Place("rows.jsonl", 3), Place("rows.jsonl", 5))


def test_a_test_row_that_is_learnt_is_a_leak_and_no_copy() -> None:
    looking = Looking()
    looking.see(chat("a", "b", 1))
    looking.see(chat("a", "b", 2), test=True)
    assert [one.risk for one in looking.found() if one.severity == "high"] == ["leaks"]
