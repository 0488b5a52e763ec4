"""How far a file's answers are from those of the model it was made from: on neutral prompts, and on its own rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ExportError, Fault
from tunesmith.exports._onnx_gptq import Given
from tunesmith.exports._onnx_samples import Sample, neutral, of_rows
from tunesmith.exports._onnx_session import run
from tunesmith.text.example import Example
from tunesmith.text.template import Text

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import PreTrainedModel

AS_GOOD = math.log(2)
"""Nats by which a token may be less likely than the likeliest and still count as the model's own choice.

Where two tokens are about as likely the model has no choice that a file could miss: rounding of any kind decides.
"""
MANY = 0.125  # of the answers of the rows, by which a file is far


@dataclass(frozen=True)
class Choices:
    """A row, and for each place of its answer the tokens (one or more) that the model would choose there."""

    sample: Sample
    as_good: Sequence[frozenset[int]]


@dataclass(frozen=True)
class Measured:
    """How far a file is from the model, where `n_changed` of the `n_rows` answers that were looked at change."""

    kl: float
    """Mean over the tokens of neutral answers, in nats; infinite where logits are no numbers."""
    agreement: float
    """The share of those tokens whose place has the same likeliest one."""
    n_rows: int = 0
    n_changed: int = 0
    enough: bool = True
    """Whether it is within the limit and changes none of them."""

    @property
    def is_far(self) -> bool:
        """Whether it changes many of them."""
        return self.n_changed > MANY * self.n_rows

    @property
    def distance(self) -> tuple[float, float]:
        """Less is nearer: the share of answers that change first, all of them where none was looked at; then the KL."""
        return self.n_changed / self.n_rows if self.n_rows else 1.0, self.kl

    def as_tree(self) -> dict[str, Any]:
        """For the manifest."""
        tree: dict[str, Any] = {
            "kl": round(self.kl, 6) if math.isfinite(self.kl) else None,
            "agreement": round(self.agreement, 4),
        }
        return {**tree, "rows": self.n_rows, "changed": self.n_changed} if self.n_rows else tree


@dataclass(frozen=True)
class Probe:
    """What the model itself says: `reference` holds its log-probabilities (n_answer, V) for each neutral sample.

    Tokens that are never written (`never`) have no place among the V.
    """

    samples: Sequence[Sample]
    reference: Sequence[np.ndarray[Any, Any]]
    given: Mapping[str, Given]
    rows: Sequence[Choices] = ()
    never: Sequence[int] = ()

    def measure(self, session: Any, kl_limit: float = math.inf, *, to_the_end: bool = True) -> Measured:
        """How far a file is; where not `to_the_end`, no row is asked of one that is over the limit already."""
        kl, agreement = self._on_neutral(session)
        rows = self.rows if to_the_end or kl <= kl_limit else ()
        n_changed = sum(not self._stays(session, row) for row in rows)
        return Measured(kl, agreement, len(rows), n_changed, enough=kl <= kl_limit and not n_changed)

    def _on_neutral(self, session: Any) -> tuple[float, float]:
        import numpy as np

        divergence, agree = [], []
        for sample, wanted in zip(self.samples, self.reference, strict=True):
            seen = log_softmax(np.delete(_logits(session, sample), self.never, axis=-1))
            divergence.append((np.exp(wanted) * (wanted - seen)).sum(-1))
            agree.append(wanted.argmax(-1) == seen.argmax(-1))
        kl = float(np.concatenate(divergence).mean())
        return kl if math.isfinite(kl) else math.inf, float(np.concatenate(agree).mean())

    def _stays(self, session: Any, row: Choices) -> bool:
        logits = _logits(session, row.sample)
        logits[:, self.never] = -math.inf
        return all(one in as_good for one, as_good in zip(logits.argmax(-1).tolist(), row.as_good, strict=True))


def _logits(session: Any, sample: Sample) -> np.ndarray[Any, Any]:
    """What a file says (n_answer, V) at each place of the answer."""
    logits: np.ndarray[Any, Any] = run(session, sample.ids, keep=sample.n_answer + 1)["logits"][0, :-1]
    return logits


def finite(kl: float, dtype: str) -> None:
    """Nothing, where a file answers with numbers at all.

    Raises:
        ExportError: `export/web-no-numbers`, when its logits are none, as where sums do not fit in float16.
    """
    if not math.isfinite(kl):
        what = f"computed in {dtype}, this model's logits are no numbers any more"
        fix = "set export.web.dtypes to [q4, q8], which compute in float32"
        raise ExportError(Fault("export/web-no-numbers", what, fix=fix))


def probe(model: PreTrainedModel, text: Text, raw_text: bool, rows: Sequence[Example] = ()) -> Probe:
    """The model's own answers and choices, its probabilities there, and what its matrices are given.

    While it answers a half of the neutral prompts, and a quarter of its own `rows`, it is watched; the others measure
    what became of it. Where there are rows, half as many neutral prompts do.
    """
    never, own = sorted(text.never), [] if raw_text else of_rows(text, rows)
    built_in = neutral(model, text, raw_text, every=2 if own else 1)
    watched, asked = [*built_in[::2], *own[::4]], built_in[1::2]
    given = _given(model, watched)
    choices = [Choices(one, list(_choices(model, one, never))) for at, one in enumerate(own) if at % 4]
    return Probe(asked, [_logprobs(model, one, never) for one in asked], given, choices, never)


def _logprobs(model: PreTrainedModel, sample: Sample, never: Sequence[int]) -> np.ndarray[Any, Any]:
    import numpy as np

    return log_softmax(np.delete(_own_logits(model, sample), never, axis=-1))


def _choices(model: PreTrainedModel, sample: Sample, never: Sequence[int]) -> Iterator[frozenset[int]]:
    import numpy as np

    logits = _own_logits(model, sample)
    logits[:, never] = -math.inf
    for place in logits >= logits.max(-1, keepdims=True) - AS_GOOD:
        yield frozenset(np.flatnonzero(place).tolist())


def _own_logits(model: PreTrainedModel, sample: Sample) -> np.ndarray[Any, Any]:
    import torch

    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([sample.ids]), logits_to_keep=sample.n_answer + 1).logits
    return logits[0, :-1].float().numpy()


def _given(model: PreTrainedModel, samples: Sequence[Sample]) -> dict[str, Given]:
    """What each linear layer is given, by the name of its weight; layers that are given the same share it."""
    import torch

    seen: dict[str, list[torch.Tensor]] = {}

    def listen(name: str) -> Any:
        def hook(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            seen.setdefault(name, []).append(inputs[0])

        return hook

    linears = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)]
    hooks = [layer.register_forward_pre_hook(listen(f"{name}.weight")) for name, layer in linears]
    with torch.inference_mode():
        for sample in samples:
            model(torch.tensor([sample.ids]))
    for one in hooks:
        one.remove()
    by_input: dict[tuple[int, ...], Given] = {}
    return {
        name: by_input.setdefault(tuple(map(id, parts)), Given([one.flatten(0, -2) for one in parts]))
        for name, parts in seen.items()
    }


def log_softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Natural log-probabilities along the last axis, in float64."""
    import numpy as np

    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    out: np.ndarray[Any, Any] = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return out
