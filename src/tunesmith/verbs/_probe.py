"""How fast a run would go here: real steps of slices of its base are taken, and what they took is kept."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith import files, say
from tunesmith.machine import fingerprint, is_busy
from tunesmith.verbs._ready import Ready

if TYPE_CHECKING:
    from tunesmith.learn.levers import Work
    from tunesmith.learn.pace import Pace, Seen
    from tunesmith.text.example import Tokens

VERSION = 2  # of what is kept: another one is measured anew
SECONDS = 6.0  # that the steps of all slices may take, by the estimate; a larger one alone where there is time
ROOM = 1 << 30  # bytes that the larger slice and its checkpoint may take, where it has more layers than it needs
MOST_TOKENS = 4096  # of a measured step: more of them do not make a token slower or faster
HELD_OUT = 1024  # tokens of which the held-out loss is taken
LENGTH_OF_A_RUN = ("epochs", "steps", "max_length", "checkpoint_minutes")
PACKAGES = ("torch", "transformers", "peft", "accelerate", "tunesmith")


def kept(ready: Ready, work: Work) -> Pace | None:
    """What an earlier probe of such a run on such a machine has found; None where there was none."""
    from tunesmith.learn.pace import Pace

    try:
        tree = json.loads(_place(ready, work).read_text(encoding="utf-8"))["pace"]
        return Pace(**{**tree, "layers": tuple(tree["layers"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def probe(ready: Ready, work: Work, *, seconds: float, memory_bytes: int) -> tuple[Pace | None, str]:
    """The pace of a run on this machine, measured now; or None and why it could not be told.

    Args:
        ready: the run, made ready and without a refusal.
        work: what its steps compute.
        seconds: of the whole run, as they are reckoned: what is measured is cut so that it takes a moment.
        memory_bytes: that the run takes; a probe that would take more is not made.
    """
    try:
        pace = _measured(ready, work, seconds, memory_bytes)
    except Exception as error:  # noqa: BLE001 - whatever keeps it from being measured, the plan stands without it
        return None, (str(error).strip().splitlines() or [type(error).__name__])[0]
    if not pace.busy:  # what is measured beside other work is not kept
        with contextlib.suppress(OSError):
            files.write_json(_place(ready, work), {"pace": asdict(pace), "of": _told(ready, work)})
    return pace, ""


def _measured(ready: Ready, work: Work, seconds: float, memory_bytes: int) -> Pace:
    import torch

    from tunesmith.learn import pace

    facts, settings = ready.facts, ready.settings
    assert facts is not None
    assert settings is not None
    lowest = ready.method.footprint(facts).lowest
    a_token = max(seconds / max(work.computed, 1) / facts.n_layers, 1e-12)  # in one layer
    fewest = sum(len(one) for one in pace.slices(facts.n_layers, lowest))
    groups = pace.typical(ready.rows, settings, min(MOST_TOKENS, int(SECONDS / pace.STEPS / fewest / a_token)))
    tokens = sum(pace.computed(group, facts.window) for group in groups) / len(groups)
    n_layers = min(SECONDS / pace.STEPS / tokens / a_token, ROOM / _a_layer_bytes(ready))
    chosen = pace.slices(facts.n_layers, lowest, most=int(n_layers))
    held_out = _some(ready.held_out)
    busy = is_busy(ready.machine)
    seen: list[Seen] = []
    with (
        say.progress("measure the pace", len(chosen), "slices") as bar,
        torch.random.fork_rng(),
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place,
    ):
        for number, layers in enumerate(chosen):
            below = sum(layer < lowest for layer in layers)
            seen.append(_seen(ready, layers, below, groups, held_out, Path(place) / str(number), memory_bytes))
            bar.advance(1)
    return pace.told(
        seen,
        lowest,
        facts.n_layers - lowest,
        tokens=tokens,
        held_out_tokens=sum(len(row.ids) for row in held_out),
        busy=busy,
    )


def _a_layer_bytes(ready: Ready) -> float:
    """What a layer takes in float32, and in a checkpoint what moves of it with its two moments, about."""
    assert ready.facts is not None
    numbers: int = ready.facts.n_parameters + 3 * ready.method.trainable(ready.facts)
    return 4 * numbers / ready.facts.n_layers


def _some(rows: Sequence[Tokens]) -> list[Tokens]:
    """The first rows, as many as have `HELD_OUT` tokens."""
    some: list[Tokens] = []
    for row in rows:
        if sum(len(one.ids) for one in some) >= HELD_OUT:
            break
        some.append(row)
    return some


def _seen(
    ready: Ready,
    layers: tuple[int, ...],
    below: int,
    groups: Sequence[Sequence[Tokens]],
    held_out: Sequence[Tokens],
    folder: Path,
    memory_bytes: int,
) -> Seen:
    """What the steps of one slice take."""
    from tunesmith.learn import pace
    from tunesmith.verbs._begin import put_on
    from tunesmith.weights import estimate, slices

    facts, settings = ready.facts, ready.settings
    assert facts is not None
    assert settings is not None
    method: Any = ready.method.on_layers(facts, layers)
    part = slices.sliced(facts, layers, folder / "base")
    if facts.additions or method.footprint(part).lowest != below:
        raise ValueError("this method means single layers of this base, which a slice of it has not")
    longest = max(len(row.ids) for group in groups for row in group)
    load = estimate.Load.of(method, part, settings.dtype, longest)
    at_once = min(settings.most_tokens, max(sum(len(row.ids) for row in group) for group in groups))
    takes = estimate.memory_bytes(part, load, tokens_at_once=at_once, recompute=settings.recompute)
    if takes > memory_bytes:
        raise ValueError("a slice would take more memory than the run")
    loaded = slices.made_up(part.folder, settings.torch_dtype if method.keeps_base else _float32())
    model = put_on(method, loaded, part, settings)
    return pace.see(
        model,
        groups,
        held_out,
        settings,
        keeper=method,
        rates=method.rates(model),
        folder=folder / "run",
        layers=(below, len(layers) - below),
    )


def _float32() -> Any:
    import torch

    return torch.float32


def _place(ready: Ready, work: Work) -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("tunesmith") / "pace" / f"{files.sha256_of(_told(ready, work))[:16]}.json"


def _told(ready: Ready, work: Work) -> dict[str, Any]:
    """What makes two runs go at the same pace."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    def installed(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return ""

    assert ready.settings is not None
    assert ready.facts is not None
    settings = asdict(ready.settings)
    for name in (*LENGTH_OF_A_RUN, "learning_rate", "warmup_ratio", "weight_decay", "max_grad_norm", "seed"):
        del settings[name]  # these make a run longer or another one, not a step slower
    return {
        "version": VERSION,
        "machine": fingerprint(ready.machine),
        "threads": torch.get_num_threads(),
        "packages": {name: installed(name) for name in PACKAGES},
        "base": {**ready.facts.config, "_name_or_path": ""},
        "method": {"kind": type(ready.method).kind, **ready.method.model_dump(mode="json")},
        "settings": settings,
        "rows": _profile(ready, work),
    }


def _profile(ready: Ready, work: Work) -> dict[str, Any]:
    """How long the rows are, how much of them is learnt and shared, in round numbers: a row more is the same data."""
    lengths = sorted(length for length, _ in ready.lengths)
    tenths = [lengths[(len(lengths) - 1) * tenth // 10] for tenth in range(11)]
    return {
        "tenths": [float(f"{one:.2g}") for one in tenths],
        "learnt": round(work.learnt / max(work.tokens, 1), 1),
        "computed": round(work.computed / max(work.tokens, 1), 1),
        "held_out": bool(ready.held_out),
    }
