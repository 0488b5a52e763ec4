from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunesmith.errors import Fault, PlanError
from tunesmith.machine import Chosen, Machine
from tunesmith.methods._contract import Delivery
from tunesmith.recipe import Recipe
from tunesmith.verbs._gaps import Gap, gaps_of
from tunesmith.verbs._price import Price, read_price
from tunesmith.verbs._ready import Ready, home_of, make_ready
from tunesmith.verbs.export import wanted
from tunesmith.weights.facts import BaseFacts

if TYPE_CHECKING:
    from tunesmith.learn.levers import Work
    from tunesmith.learn.pace import Pace
    from tunesmith.learn.settings import Settings

EFFICIENCY = {"cpu": 0.7, "cuda": 0.35}
"""Share of the measured matrix product that the products of a step reach: they are of other shapes."""
TOUCHED = 1.5
"""Times that what a token leaves for the backward pass goes through memory: norms, rotations, activations.

In layers that go forward only, once.
"""


@dataclass(frozen=True)
class Plan:
    """What a recipe will take and where it can go, before anything is loaded.

    `tokens` are those that go through the model in all epochs; `seconds` is of the tuning alone, from a probe of this
    machine (`pace`) or an estimate without one. `memory_bytes` are of the device that learns, `host_memory_bytes` of
    the machine; without a GPU they are the same. `moves` counts the weights that will move, by the part of the model
    that they belong to. `gaps` stop nothing, but something will not be made or checked here because of them.
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
    gaps: tuple[Gap, ...] = ()
    pace: Pace | None = None
    price: Price | None = None

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
            "price": {**asdict(self.price), "total": self.price.of(self.seconds)} if self.price else None,
            "probe": asdict(self.pace) if self.pace else None,
            "values": [asdict(value) for value in self.values],
            "refusals": [fault.as_json() for fault in self.refusals],
            "gaps": [asdict(gap) for gap in self.gaps],
            "delivers": {name: asdict(delivery) for name, delivery in self.delivers.items()},
            "moves": dict(self.moves),
            "parameters": self.ready.facts.n_parameters if self.ready.facts and self.moves else None,
            "method": {"kind": type(self.ready.method).kind, **self.ready.method.model_dump(mode="json")},
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


def plan(
    recipe: Recipe,
    *,
    into: Path | None = None,
    probe: bool | Literal["kept"] = True,
    price_per_hour: float | str | None = None,
) -> Plan:
    """What a recipe would take, and every reason why it would not work, before anything is loaded.

    Args:
        recipe: what is asked for.
        into: the run's folder; `runs/` and the name of the recipe's file when left out.
        probe: whether a few real steps are taken here to tell the time, where no earlier probe has: `"kept"` takes what
            an earlier one found and measures nothing.
        price_per_hour: what an hour of this machine costs, such as `1.2` or `"1.20 EUR"`.

    Raises:
        PlanError: `plan/bad-price`.
    """
    price = read_price(price_per_hour) if price_per_hour is not None else None
    folder = into or home_of(recipe)
    ready = make_ready(recipe, folder)
    delivers = ready.method.delivers(ready.facts) if ready.facts else {}
    made = Plan(folder, 0, 0, 0.0, 0, 0, 0, tuple(ready.values), tuple(ready.refusals), delivers, {}, ready)
    if ready.facts and ready.settings:
        from tunesmith.learn import levers

        work = levers.Work.of(ready.rows, ready.settings, ready.facts.window)
        made = _counted(made, ready.facts, ready.settings, work)
        made = _timed(made, ready.facts, ready.settings, work, probe)
    if price is not None:
        made = _priced(made, price)
    return replace(made, gaps=tuple(gaps_of(ready, folder)))


def _counted(made: Plan, facts: BaseFacts, settings: Settings, work: Work) -> Plan:
    """With steps, tokens, memory and disk."""
    from tunesmith.learn import levers

    ready = made.ready
    lowest = ready.method.footprint(facts).lowest
    memory, host = _memory(ready, facts)
    disk = _disk(ready, facts)
    return replace(
        made,
        steps=settings.steps,
        tokens=work.tokens,
        memory_bytes=memory,
        host_memory_bytes=host,
        disk_bytes=disk,
        values=(*made.values, *levers.told(work, settings, lowest=lowest, n_layers=facts.n_layers)),
        refusals=(*made.refusals, *_too_small(ready.machine, memory, host, disk)),
        moves=ready.method.moves(facts),
    )


def _timed(made: Plan, facts: BaseFacts, settings: Settings, work: Work, probe: bool | Literal["kept"]) -> Plan:
    """With the seconds, from what was measured here where it was."""
    from tunesmith.verbs import _probe

    ready = made.ready
    seconds, why = _time(ready, facts, work)
    pace, failed = _probe.kept(ready, work) if probe else None, ""
    if pace is None and probe is True and not made.refusals:
        pace, failed = _probe.probe(ready, work, seconds=seconds, memory_bytes=made.memory_bytes)
    if pace is None:
        why += f"; it could not be measured here: {failed}" if failed else ""
        return replace(made, seconds=seconds, values=(*made.values, Chosen("seconds", round(seconds), why)))
    return _measured(made, pace, work, settings)


def _measured(made: Plan, pace: Pace, work: Work, settings: Settings) -> Plan:
    """With the seconds that follow from the pace, and in words how."""
    from tunesmith.learn.pace import forecast

    held_out = sum(len(row.ids) for row in made.ready.held_out)
    run = forecast(pace, settings, computed=work.computed, held_out_tokens=held_out)
    a_step = run.steps / settings.steps
    slices = " and ".join(str(one) for one in dict.fromkeys(pace.layers))
    words = [
        f"measured here: {pace.steps} steps of {slices} layers",
        f"{a_step:.2g} s a step ({a_step * pace.low:.2g} to {a_step * pace.high:.2g})",
        *([f"{run.held_out:.2g} s for the held-out loss"] if held_out else []),
        f"{run.checkpoints:.2g} s for {run.n_checkpoints} checkpoint{'s' if run.n_checkpoints > 1 else ''}",
        *(["other work stood beside it, so it is not kept"] if pace.busy else []),
    ]
    seconds = Chosen("seconds", round(run.whole), "; ".join(words))
    return replace(made, seconds=run.whole, pace=pace, values=(*made.values, seconds))


def _priced(made: Plan, price: Price) -> Plan:
    """With what the tuning costs; nothing where it could not be timed."""
    if not made.seconds:
        return made
    total = price.of(made.seconds)
    why = f"{made.seconds / 3600:.2g} hours at {price.in_words(price.per_hour)}; exports and checks come on top"
    return replace(made, price=price, values=(*made.values, Chosen("price", price.in_words(total), why)))


def _load(ready: Ready, facts: BaseFacts) -> Any:
    from tunesmith.weights import estimate

    assert ready.settings is not None
    return estimate.Load.of(ready.method, facts, ready.settings.dtype, max(length for length, _ in ready.lengths))


def _time(ready: Ready, facts: BaseFacts, work: Work) -> tuple[float, str]:
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
    return seconds, why


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
