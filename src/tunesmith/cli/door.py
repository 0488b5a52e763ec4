"""The way in and out: words to a verb, a verb's answer to stdout, and every error to one form."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

from tunesmith import rooms, say
from tunesmith.cli import errors, front
from tunesmith.errors import Fault, Interrupted


@dataclass(frozen=True)
class Talk:
    """The flags that go with every verb."""

    json: bool = False
    quiet: bool = False
    trace: bool = False


def answer(words: list[str]) -> int:
    """Do what the words ask; the exit code."""
    words, talk = _talk(words)
    try:
        if not words or words[0] in ("--help", "-h", "help"):
            return _page([*words[1:], "--help"], talk) if words[1:] and words[0] == "help" else _say(front.page())
        if words[0] == "--version":
            from tunesmith import __version__

            return _say(f"tunesmith {__version__}")
        if words[0] not in front.VERBS:
            fix = rooms.did_you_mean(words[0], front.VERBS) + "; see: tunesmith --help"
            return errors.show(
                [Fault("cli/unknown-verb", f"there is no verb {words[0]!r}", fix=fix)], 2, as_json=talk.json
            )
        return _page(words, talk)
    except BrokenPipeError:  # whoever read our output has seen enough
        _close_stdout()
        return 0


def _talk(words: list[str]) -> tuple[list[str], Talk]:
    """The words without the flags that go with every verb, and those flags. After `--` a word is only a word."""
    end = words.index("--") if "--" in words else len(words)
    asked = [word for word in words[:end] if word in front.TALK]
    rest = [word for word in words[:end] if word not in front.TALK] + words[end:]
    return rest, Talk("--json" in asked, "--quiet" in asked, "--trace" in asked)


def _page(words: list[str], talk: Talk) -> int:
    """One verb: its help, or its work."""
    code = 0
    try:
        from tunesmith.cli.parse import Verb

        verb = Verb(words[0])
        if any(word in ("--help", "-h") for word in words[1 : words.index("--") if "--" in words else None]):
            return verb.help()
        work = verb.bind(words[1:])
        with _hushed(talk), _voice(talk), _data_only(live=words[0] == "chat" and not talk.json) as stdout:
            out = work()
            code = out.code
            out.show(stdout, as_json=talk.json)
            if out.then:
                out.then()
        return code
    except KeyboardInterrupt:
        fault = Fault("cli/interrupted", "stopped by Ctrl-C; what is finished is kept", fix=_way_on(words))
        return errors.show([fault], Interrupted.exit_code, as_json=talk.json)
    except BrokenPipeError:
        _close_stdout()
        return code
    except Exception as error:  # noqa: BLE001 - the last door: nothing may pass as a raw traceback
        return errors.explain(error, as_json=talk.json, trace=talk.trace)


def _way_on(words: list[str]) -> str:
    """How to go on with what Ctrl-C stopped."""
    if "--fresh" in words:
        return "type it again without --fresh" + (", and with --resume" if words[0] == "tune" else "")
    return "type it again with --resume" if words[0] == "tune" else "type it again"


def _say(text: str) -> int:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
    return 0


def _close_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush is quiet too."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _voice(talk: Talk) -> Iterator[None]:
    from tunesmith.cli.voice import chosen

    before = say.hear(say.Silent() if talk.quiet else chosen())
    try:
        yield
    finally:
        say.hear(before)


@contextlib.contextmanager
def _hushed(talk: Talk) -> Iterator[None]:
    """The libraries below say nothing of their own, unless the trace is asked for."""
    if talk.trace:
        yield
        return
    import logging
    import warnings

    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
}


@contextlib.contextmanager
def _data_only(live: bool) -> Iterator[TextIO]:
    """The real stdout, for the verb's answer alone: what libraries print meanwhile goes to stderr.

    `live`: the verb talks to the person itself, so all stays as it is.
    """
    sys.stdout.flush()
    real = sys.stdout
    if live:
        yield real
        return
    kept: int | None = None
    try:
        if real.fileno() == 1:
            kept = os.dup(1)
            os.dup2(2, 1)
            stream: TextIO = os.fdopen(os.dup(kept), "w", encoding="utf-8", errors="replace", closefd=True)
        else:
            stream = real
    except (OSError, ValueError):  # no file behind it, as under a test that captures
        stream = real
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield stream
        stream.flush()
    finally:
        if kept is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
            os.dup2(kept, 1)
            os.close(kept)
