"""A process of its own that runs llama.cpp's converter: started by `_conversion.py`, never imported.

The converter edits sys.path, brings its own `gguf` package and ends the process, so it cannot live in ours. One JSON
argument says what to do; progress goes to stdout as JSON lines; the converter's talk goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any, TextIO

TOLD: TextIO


def tell(**what: object) -> None:
    """A line to the process that asked."""
    TOLD.write(json.dumps(what) + "\n")
    TOLD.flush()


class ToldBar:
    """Stands in for the progress bar of the converter's writer."""

    def __init__(self, *_: Any, total: float | None = None, **__: Any) -> None:
        tell(total=total)

    def update(self, n: float = 1) -> None:
        """Bytes that were written."""
        tell(advance=n)

    def __getattr__(self, name: str) -> Any:
        """All else that a bar can do, which is nothing here."""
        return lambda *_, **__: None


def patch_pretokenizer(text_model: Any, model: str) -> None:
    """A tokenizer that the converter does not know by its hash is named by the structure of its tokenizer.json."""
    from pathlib import Path

    from tunesmith.text import pretokenizer

    by_hash = text_model.get_vocab_base_pre

    def get_vocab_base_pre(self: Any, tokenizer: Any) -> str:
        try:
            return str(by_hash(self, tokenizer))
        except NotImplementedError:
            tree = json.loads((Path(model) / "tokenizer.json").read_text(encoding="utf-8"))
            name = pretokenizer.name_of(tree)
            if name is None:
                raise
            tell(pretokenizer=name)
            return name

    text_model.get_vocab_base_pre = get_vocab_base_pre


def patch_metadata(text_model: Any, asked: dict[str, Any]) -> None:
    """What transformers does at run time is written into the file: end tokens, BOS, suppressed tokens, template."""
    original = text_model.prepare_metadata

    def prepare_metadata(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        writer = self.gguf_writer
        for key in [key for part in writer.kv_data for key in part if key.startswith("general.sampling.")]:
            writer.remove_key(key)  # defaults of a server are not ours to set
        write_ends(writer, asked["end_ids"])
        writer.add_add_bos_token(asked["add_bos"])
        writer.add_add_eos_token(asked["add_eos"])
        if asked["suppress"]:
            writer.add_suppress_tokens(asked["suppress"])
        if asked["chat_template"] is not None:
            writer.add_chat_template(asked["chat_template"])

    text_model.prepare_metadata = prepare_metadata


def patch_marks(text_model: Any, ends: list[str]) -> None:
    """An added token that is not special is part of an answer, unless it ends it.

    The converter takes one that is written like `<|tool|>` for a mark all the same, and answers would be shown without.
    """
    by_look = text_model.does_token_look_special

    def does_token_look_special(self: Any, token: Any) -> bool:
        word = token if isinstance(token, str) else bytes(token).decode()
        return word in ends and bool(by_look(self, token))

    text_model.does_token_look_special = does_token_look_special


def write_ends(writer: Any, end_ids: list[int]) -> None:
    """Put every end token that has no place yet into a free one: the format has eos, eot and eom."""
    import gguf

    keys = gguf.Keys.Tokenizer
    places = {
        keys.EOS_ID: writer.add_eos_token_id,
        keys.EOT_ID: writer.add_eot_token_id,
        keys.EOM_ID: writer.add_eom_token_id,
    }
    taken = {key: part[key].value for part in writer.kv_data for key in places if key in part}
    free = [key for key in places if key not in taken]
    for end in (one for one in end_ids if one not in taken.values()):
        places[free.pop(0)](end)


def convert() -> None:
    """All outputs, one after the other, in this process."""
    global TOLD
    TOLD = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    asked = json.loads(sys.argv[1])
    threading.Thread(target=end_with_parent, daemon=True).start()
    import tqdm  # type: ignore[import-untyped]

    tqdm.tqdm = ToldBar
    sys.path[:0] = [asked["root"] + "/gguf-py", asked["root"]]
    import conversion  # type: ignore[import-not-found]
    import convert_hf_to_gguf  # type: ignore[import-not-found]

    patch_pretokenizer(conversion.TextModel, asked["model"])
    patch_metadata(conversion.TextModel, asked)
    patch_marks(conversion.TextModel, asked["ends"])
    for output in asked["outputs"]:
        tell(begin=output["type"])
        sys.argv = ["convert_hf_to_gguf.py", asked["model"], "--outtype", output["type"], "--outfile", output["path"]]
        sys.argv += ["--model-name", asked["name"]]
        convert_hf_to_gguf.main()
        tell(done=output["type"])


def end_with_parent() -> None:
    """Stdin closes when the process that asked is gone, however it went."""
    while os.read(0, 4096):  # unbuffered: a buffer's lock would break the end of the process
        pass
    os._exit(1)


if __name__ == "__main__":
    convert()
