from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.errors import Fault, PlanError
from tunesmith.machine import Chosen, Machine
from tunesmith.methods._contract import Delivery
from tunesmith.recipe import Recipe
from tunesmith.verbs._ready import Ready, home_of, make_ready
from tunesmith.verbs.export import wanted
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from tunesmith.learn.levers import Work

EFFICIENCY = {"cpu": 0.7, "cuda": 0.35}
"""Share of the measured matrix product that the products of a step reach: they are of other shapes."""
TOUCHED = 1.5
"""Times that what a token leaves for the backward pass goes through memory: norms, rotations, activations.

In layers that go forward only, once.
"""


@dataclass(frozen=True)
class Plan:
    """What a recipe will take and where it can go, before anything is loaded.

    `tokens` are those that go through the model in all epochs; `seconds` is an estimate of the tuning alone.
    `memory_bytes` are of the device that learns, `host_memory_bytes` of the machine; without a GPU they are the same.
    `moves` counts the weights that will move, by the part of the model that they belong to.
    """

    folder: Path
    steps: int
    tokens: int
    seconds: float
    memory_bytes: int
    host_memory_bytes: int
    disk_bytes: int
    values: tuple[Chosen, ...]
    refusals: tuple[Fault, ...]
    delivers: Mapping[str, Delivery]
    moves: Mapping[str, int]
    ready: Ready = field(repr=False, compare=False)

    def as_json(self) -> dict[str, Any]:
        """The same for programs; keys as `docs/json.md` promises."""
        settings = self.ready.settings
        return {
            "steps": self.steps,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 1),
            "memory_bytes": self.memory_bytes,
            "host_memory_bytes": self.host_memory_bytes,
            "disk_bytes": self.disk_bytes,
            "values": [asdict(value) for value in self.values],
            "refusals": [fault.as_json() for fault in self.refusals],
            "delivers": {name: asdict(delivery) for name, delivery in self.delivers.items()},
            "moves": dict(self.moves),
            "parameters": self.ready.facts.n_parameters if self.ready.facts and self.moves else None,
            "folder": str(self.folder),
            "day": self.ready.day.isoformat(),
            "settings": asdict(settings) if settings else None,
        }

    def or_raise(self) -> Plan:
        """This plan, when nothing is refused.

        Raises:
            PlanError: with all the refusals.
        """
        if self.refusals:
            raise PlanError(self.refusals)
        return self


def plan(recipe: Recipe, *, into: Path | None = None) -> Plan:
    """What a recipe would take, and every reason why it would not work, before anything is loaded.

    Args:
        recipe: what is asked for.
        into: the run's folder; `runs/` and the name of the recipe's file when left out.
    """
    folder = into or home_of(recipe)
    ready = make_ready(recipe, folder)
    delivers = ready.method.delivers(ready.facts) if ready.facts else {}
    moves: Mapping[str, int] = {}
    memory = host = disk = steps = tokens = 0
    seconds = 0.0
    values = list(ready.values)
    refusals = list(ready.refusals)
    if ready.facts and ready.settings:
        from tunesmith.learn import levers

        steps = ready.settings.steps
        moves = ready.method.moves(ready.facts)
        work = levers.Work.of(ready.rows, ready.settings, ready.facts.window)
        tokens = work.tokens
        lowest = ready.method.footprint(ready.facts).lowest
        values += levers.told(work, ready.settings, lowest=lowest, n_layers=ready.facts.n_layers)
        seconds, why = _time(ready, ready.facts, work)
        memory, host = _memory(ready, ready.facts)
        disk = _disk(ready, ready.facts)
        values.append(why)
        refusals += _too_small(ready.machine, memory, host, disk)
    found = tuple(values), tuple(refusals)
    return Plan(folder, steps, tokens, seconds, memory, host, disk, *found, delivers, moves, ready)


def _load(ready: Ready, facts: BaseFacts) -> Any:
    from tunesmith.weights import estimate

    assert ready.settings is not None
    return estimate.Load.of(ready.method, facts, ready.settings.dtype, max(length for length, _ in ready.lengths))


def _time(ready: Ready, facts: BaseFacts, work: Work) -> tuple[float, Chosen]:
    """Seconds of the tuning, and how they were reckoned."""
    from tunesmith.machine import measure
    from tunesmith.weights import estimate

    settings = ready.settings
    assert settings is not None
    load = _load(ready, facts)
    below = work.computed / settings.epochs if settings.keeps_below else work.computed
    operations = estimate.flops(
        facts,
        load,
        tokens=work.computed,
        tokens_below=below,
        learnt=work.learnt,
        mean_length=work.tokens / work.n_rows,
        recompute=settings.recompute,
    )
    held = sum(len(row.ids) for row in ready.held_out) * (1 + math.ceil(settings.epochs))
    operations += held * 2 * facts.n_parameters
    speed = measure(ready.machine)
    gflops = speed.gflops["float32-onednn" if settings.onednn else settings.dtype]
    share = EFFICIENCY[settings.device]
    # What the base leaves, whatever the method: over all layers, and over those that go backward.
    bare = [replace(load, footprint=estimate.Footprint(lowest=at)) for at in (0, load.footprint.lowest)]
    every, kept = (estimate.token_bytes(facts, one, recompute=False) for one in bare)
    moved = TOUCHED * kept * work.computed + (every - kept) * below
    seconds = operations / (gflops * 1e9 * share) + moved / speed.bytes_per_second
    products = f"{operations / 1e12:.1f} TFLOP at {share:.0%} of the measured {gflops:.0f} GFLOP/s"
    why = f"{products}, {moved / 1e9:.0f} GB at {speed.bytes_per_second / 1e9:.0f} GB/s; an estimate"
    return seconds, Chosen("seconds", round(seconds), why)


def _memory(ready: Ready, facts: BaseFacts) -> tuple[int, int]:
    """Bytes of the device that learns, and of the machine; upper bounds."""
    from tunesmith.weights import estimate

    settings = ready.settings
    assert settings is not None
    load = _load(ready, facts)
    learning = estimate.memory_bytes(facts, load, tokens_at_once=settings.most_tokens, recompute=settings.recompute)
    resting = estimate.resting_bytes(facts, load, settings.save_dtype)
    most = max(learning, resting)
    return (learning, resting) if ready.machine.gpu else (most, most)


def _disk(ready: Ready, facts: BaseFacts) -> int:
    """Bytes of the run with its exports and what those need; an upper bound."""
    from tunesmith.weights import estimate

    assert ready.settings is not None
    load = _load(ready, facts)
    larger = 1 + load.footprint.n_added / facts.n_parameters
    exports = sum(int(export.disk_bytes(facts) * larger) for export in wanted(ready.recipe.export))
    once = sum(len(row.ids) for row in (*ready.rows, *ready.held_out))
    below = estimate.below_bytes(facts, once) if ready.settings.keeps_below else 0  # gone before the exports
    return estimate.disk_bytes(facts, load, ready.settings.save_dtype) + max(exports, below)


def _too_small(machine: Machine, memory: int, host: int, disk: int) -> list[Fault]:
    faults = []
    if memory > machine.learning_memory_bytes:
        has = f"{machine.gpu or 'this machine'} has {machine.learning_memory_bytes / 1e9:.1f}"
        what = f"learning needs up to {memory / 1e9:.1f} GB of memory, and {has}"
        fix = "choose a smaller base or method: lora, set a smaller run.max_length, or take a larger machine"
        faults.append(Fault("plan/memory-too-small", what, fix=fix))
    if machine.gpu and host > machine.memory_bytes:
        has = f"this machine has {machine.memory_bytes / 1e9:.1f} beside its GPU's"
        what = f"putting the learnt weights into the base needs up to {host / 1e9:.1f} GB of memory, and {has}"
        fix = "choose a smaller base, set run.save_dtype: bfloat16, or take a machine with more memory"
        faults.append(Fault("plan/memory-too-small", what, fix=fix))
    if disk > machine.free_disk_bytes:
        what = f"needs up to {disk / 1e9:.1f} GB of disk, and {machine.free_disk_bytes / 1e9:.1f} GB are free here"
        faults.append(Fault("plan/disk-too-small", what, fix="free some, or name another place with --into"))
    return faults
