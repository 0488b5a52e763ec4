from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tunesmith.artifact import Export
from tunesmith.errors import CannotTell, Fault, RuntimeFault
from tunesmith.runtimes._contract import Answer, Found
from tunesmith.text.example import Ask, Prompt
from tunesmith.text.template import Text

GET = "pip install 'tunesmith[web]'"


@dataclass(frozen=True)
class OnnxOpened:
    """An ONNX file of a web export in ONNX Runtime on the CPU, with the tokenizer that lies beside it."""

    session: Any
    text: Text
    raw_text: bool

    def render(self, ask: Ask) -> str:
        """The prompt, by the template in the export's own tokenizer_config.json."""
        return self.text.prompt(ask).text

    def tokens(self, text: str) -> Sequence[int]:
        """The ids, by the export's own tokenizer.json."""
        return self.text.ids(text, self.raw_text)

    def logprobs(self, prompt: Prompt, top: int) -> Mapping[int, float]:
        """The `top` likeliest next tokens, computed in float64 from the logits."""
        import numpy as np

        logits = self._allowed(self._run(prompt.ids, {})[0]).astype(np.float64)  # (V,)
        logits -= logits.max()
        logprobs = logits - np.log(np.exp(logits).sum())
        best = np.argsort(-logprobs, kind="stable")[:top]
        return {int(one): float(logprobs[one]) for one in best}

    def answer(self, ask: Ask, max_tokens: int) -> Answer:
        """The greedy answer: the prompt at once, then a token at a time over the cache."""
        prompt = self.text.prompt(ask)
        began = time.monotonic()
        ids = self._greedy(prompt.ids, max_tokens)
        seconds = time.monotonic() - began
        stopped = bool(ids) and ids[-1] in self.text.end_ids
        return Answer(self.text.decode(ids), stopped, len(prompt.ids), len(ids), seconds)

    def _greedy(self, ids: Sequence[int], max_tokens: int) -> list[int]:
        out: list[int] = []
        cache: dict[str, Any] = {}
        feed = list(ids)
        while len(out) < max_tokens and not (out and out[-1] in self.text.end_ids):
            logits, cache = self._run(feed, cache)
            out.append(int(self._allowed(logits).argmax()))
            feed = out[-1:]
        return out

    def _allowed(self, logits: Any) -> Any:
        """Logits (V,), without the tokens that never come."""
        import numpy as np

        allowed = logits.copy()
        allowed[sorted(self.text.never)] = -np.inf
        return allowed

    def _run(self, ids: Sequence[int], cache: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Logits (V,) of the last token, and the cache after it."""
        import numpy as np

        past = dict(cache) or self._no_cache()
        n_before = next(iter(past.values())).shape[2]
        feeds = {
            **past,
            "input_ids": np.array([ids], dtype=np.int64),
            "attention_mask": np.ones((1, n_before + len(ids)), dtype=np.int64),
            "position_ids": np.arange(n_before, n_before + len(ids), dtype=np.int64)[None],
            "num_logits_to_keep": np.array(1, dtype=np.int64),
        }
        wanted = {one.name for one in self.session.get_inputs()}
        names = [one.name for one in self.session.get_outputs()]
        values = self.session.run(None, {name: value for name, value in feeds.items() if name in wanted})
        out = dict(zip(names, values, strict=True))
        logits = out.pop("logits")[0, -1]
        return logits, {name.replace("present.", "past_key_values."): value for name, value in out.items()}

    def _no_cache(self) -> dict[str, Any]:
        import numpy as np

        kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
        return {
            one.name: np.zeros((1, one.shape[1], 0, one.shape[3]), dtype=kinds[one.type])
            for one in self.session.get_inputs()
            if one.name.startswith("past_key_values.")
        }


class OnnxRuntime:
    """ONNX Runtime in Python: the web export's files, without a browser."""

    kind: ClassVar[str] = "onnxruntime"
    takes_ids: ClassVar[bool] = True

    def present(self) -> Found:
        """Whether the package is installed."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            return Found(True, version("onnxruntime"))
        except PackageNotFoundError:
            return Found(False, get=GET)

    @contextmanager
    def open(self, export: Export, variant: str, text: Text) -> Iterator[OnnxOpened]:
        """One `.onnx` file; `text` is not used: the tokenizer that was exported is the one to be checked."""
        found = self.present()
        if not found.here:
            raise CannotTell(f"onnxruntime is not installed; {found.get}")
        path = export.variants[variant].path
        own = Text.read(path.parent.parent)
        yield OnnxOpened(_session(path), own, bool(export.about.get("raw_text")) or not own.has_template)


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - its errors have no common class of their own
        what = f"onnxruntime cannot load it: {str(error).splitlines()[0]}"
        raise RuntimeFault(
            Fault("onnxruntime/cannot-load", what, fix="export again with --to web", file=str(path))
        ) from None
