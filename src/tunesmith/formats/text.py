"""Raw text: rows `{"text": "..."}`, and `.txt` or `.md` files as one text each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, ClassVar

from tunesmith.errors import Fault
from tunesmith.formats._foreign import cure
from tunesmith.text.example import Example


class PlainText:
    """A text a row, learnt as it stands under `objective: uft`."""

    kind: ClassVar[str] = "text"

    def __init__(self) -> None:
        self.ignored: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """A row that has `text` and no `messages`; formats that ask for more of a row stand before this one."""
        return "text" in row and "messages" not in row

    def read(self, row: Mapping[str, Any], file: str, line: int) -> Example | list[Fault]:
        """The text in a row, or its fault."""
        place: dict[str, Any] = {"file": file, "line": line, "key": "text"}
        text = row.get("text")
        if "text" not in row:
            what = f"this row has no text; it has {', '.join(map(str, row)) or 'nothing'}"
            fix = cure(row, self.kind) or "add text, or remove the row"
            return [Fault("data/no-text", what, fix=fix, **place)]
        if not isinstance(text, str):
            return [Fault("data/no-text", f"text is {text!r:.40}", fix="write a text", **place)]
        if not text.strip():
            return [Fault("data/empty-text", "the text is empty", fix="fill it, or remove the row", **place)]
        if "\0" in text:
            what = "the character NUL is in it, at which many programs end a text"
            return [Fault("data/nul-character", what, fix="remove it, or the row", **place)]
        self.ignored.update(key for key in row if key != "text" and row[key] is not None)
        return Example(text=text, file=file, line=line)
