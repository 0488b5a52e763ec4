from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

from tunesmith.artifact import Export
from tunesmith.errors import CannotTell, Fault, RuntimeFault
from tunesmith.machine import peak_memory_bytes
from tunesmith.runtimes._contract import Answer, Found
from tunesmith.text.example import Ask, Prompt
from tunesmith.text.template import Text
from tunesmith.web import packages

LOAD_S, ASK_S = 300.0, 600.0


class _Child:
    """A Node process that is asked in lines of JSON and answers in lines of JSON."""

    def __init__(self, command: Sequence[str]) -> None:
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, encoding="utf-8"
        )

    def ask(self, question: Mapping[str, Any], seconds: float = ASK_S) -> dict[str, Any]:
        """One line there, one line back."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(question) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise self.fault("it ended") from None
        return self.hear(seconds)

    def hear(self, seconds: float) -> dict[str, Any]:
        """The next line; a process that is silent too long is killed."""
        assert self.process.stdout is not None
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            late = not timer.is_alive()
            timer.cancel()
        if not line:
            raise self.fault(f"no answer in {seconds:.0f} s" if late else "it ended")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise self.fault(str(said["error"]).splitlines()[0])
        return said

    def fault(self, what: str) -> RuntimeFault:
        """What went wrong, with the first line of what the process complained of."""
        self.log.seek(0)
        said = [line for line in self.log.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in said if "rror" in line] or said
        more = f"; it said: {errors[0].strip()}" if errors else ""
        return RuntimeFault(
            Fault("transformers_js/failed", f"Transformers.js in Node: {what}{more}", fix="export again with --to web")
        )

    def close(self) -> None:
        """End it; by force when it does not go."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()


@dataclass(frozen=True)
class JsOpened:
    """A model that Transformers.js has loaded in Node."""

    child: _Child
    text: Text
    raw_text: bool

    def render(self, ask: Ask) -> str:
        """The prompt as Transformers.js renders the template."""
        if isinstance(ask, str):
            return self.text.lead + ask
        return str(self.child.ask({"ask": "render", "messages": [dict(one) for one in ask]})["text"])

    def tokens(self, text: str) -> Sequence[int]:
        """The ids, by the tokenizer of Transformers.js."""
        raw = self.raw_text and not self.text.lead
        return [int(one) for one in self.child.ask({"ask": "tokens", "text": text, "raw": raw})["ids"]]

    def logprobs(self, prompt: Prompt, top: int) -> Mapping[int, float]:
        """The `top` likeliest next tokens, from the logits that Transformers.js gives."""
        asked = {"ask": "logprobs", "ids": list(prompt.ids), "top": top, "never": sorted(self.text.never)}
        said = self.child.ask(asked)["logprobs"]
        return {int(one): float(value) for one, value in said}

    def answer(self, ask: Ask, max_tokens: int) -> Answer:
        """The greedy answer by its `generate`, over the prompt as it renders and splits it itself."""
        ids = self.tokens(self.render(ask))
        said = self.child.ask({"ask": "answer", "ids": ids, "max_tokens": max_tokens})
        return Answer(str(said["text"]), bool(said["stopped"]), len(ids), len(said["ids"]), float(said["seconds"]))

    def peak_memory_bytes(self) -> int | None:
        """Of Node, with all that it needs beside the model."""
        return peak_memory_bytes(self.child.process.pid)


class TransformersJs:
    """Transformers.js in Node: what a web page runs, without the page."""

    kind: ClassVar[str] = "transformers_js"
    takes_ids: ClassVar[bool] = True

    def present(self) -> Found:
        """Whether Node is here; the npm packages are installed when they are first needed."""
        node = packages.node()
        if node is None:
            return Found(False, get=packages.GET_NODE)
        where = packages.find()
        if where is None:
            return Found(False, get=f"cd {packages.HERE} && npm ci --ignore-scripts")
        return Found(True, f"{packages.version()} in Node {node.version}", str(where))

    @contextmanager
    def open(self, export: Export, variant: str, text: Text) -> Iterator[JsOpened]:
        """One dtype of a web export; `text` is not used: the tokenizer that was exported is the one to be checked."""
        found = self.present()
        if not found.here:
            raise CannotTell(f"Transformers.js cannot run here; {found.get}")
        path = export.variants[variant].path
        with _child(path.parent.parent, variant, Path(found.where)) as child:
            own = Text.read(path.parent.parent)
            yield JsOpened(child, own, bool(export.about.get("raw_text")) or not own.has_template)


@contextmanager
def _child(model: Path, dtype: str, modules: Path) -> Iterator[_Child]:
    node = packages.node()
    assert node is not None
    library = modules / packages.LIBRARY / "transformers.node.mjs"
    child = _Child([str(node.path), str(packages.HERE / "ask.mjs"), str(library), str(model), dtype])
    try:
        child.hear(LOAD_S)
        yield child
    finally:
        child.close()
