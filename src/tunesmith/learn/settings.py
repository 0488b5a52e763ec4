"""What a run will do, in numbers: everything that was left to us is chosen here, each value with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch

from tunesmith.errors import Fault, PlanError
from tunesmith.learn.batches import plan_steps
from tunesmith.machine import Chosen, Machine, choose_route, measure
from tunesmith.recipe import Options
from tunesmith.weights import estimate
from tunesmith.weights.facts import BaseFacts

ROWS = 16  # rows a step: enough to be steady, few enough that a small data set still gives many steps
STEPS_AN_EPOCH = 20  # what a tiny data set should still give
MOST_LEARNT_AT_ONCE = 2048  # tokens in a portion, beyond which a CPU gains nothing
MOST_TOKENS_A_STEP = 16384
PIECE = 1024  # tokens of a piece of raw text
USUAL_EPOCHS = 3
LEAST_LOOKS, MOST_LOOKS = 100, 25_000  # at a row, in all epochs
MOST_LEARNT = 10_000_000  # tokens, in all epochs
MOST_EPOCHS = 10
BILLION = 1_000_000_000


class Moves(estimate.Moves, Protocol):
    """What has to be known of a method here: its rate, and which weights it moves."""

    learning_rate: ClassVar[float]


@dataclass(frozen=True)
class Settings:
    """All the values of a run, none of them open.

    `rows_per_step` or `learnt_per_step` is None: whichever the steps are not counted by. `most_rows` and `most_tokens`
    bound what goes through the model at once; they change the memory, not the result.
    """

    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "bfloat16"]
    onednn: bool
    epochs: float
    steps: int
    rows_per_step: int | None
    learnt_per_step: int | None
    most_rows: int | None
    most_tokens: int
    learning_rate: float
    warmup_ratio: float
    weight_decay: float
    max_grad_norm: float
    max_length: int
    recompute: bool
    save_dtype: Literal["float32", "bfloat16"]
    checkpoint_minutes: float
    seed: int
    beside: int = 0
    """Tokens' worth of keys and values that each row attends to besides its own."""
    keeps_below: bool = False
    """Whether what the layers below all that learns make of each row is kept on the disk over the epochs."""

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type of the products, as torch names it."""
        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32


def longest(options: Options, facts: BaseFacts, *, in_pieces: bool) -> Chosen:
    """Tokens an example may have. `in_pieces`: longer ones are cut and nothing is lost, as with raw text.

    Raises:
        PlanError: `plan/too-long`, when more is asked for than the model can attend to.
    """
    if options.max_length != "auto":
        if options.max_length > facts.context:
            what = f"max_length is {options.max_length}, and {facts.name} attends to {facts.context} tokens"
            raise PlanError(
                Fault("plan/too-long", what, fix=f"set run.max_length: {facts.context}", key="run.max_length")
            )
        return Chosen("max_length", options.max_length, "as the recipe says")
    if in_pieces and facts.context > PIECE:
        return Chosen(
            "max_length", PIECE, f"raw text in pieces; longer ones (up to {facts.context}) cost more memory and time"
        )
    return Chosen("max_length", facts.context, "the model's context")


def settle(
    options: Options,
    method: Moves,
    facts: BaseFacts,
    machine: Machine,
    lengths: Sequence[tuple[int, int]],
    *,
    max_length: int | None = None,
    n_held_out: int = 0,
) -> tuple[Settings, tuple[Chosen, ...]]:
    """All values of the run, and those that were chosen here with their reasons.

    `lengths` holds (tokens, learnt tokens) of each row; `n_held_out` are the tokens of the rows held out.
    """
    route = choose_route(measure(machine), options.dtype)
    dtype: Literal["float32", "bfloat16"] = "bfloat16" if route.value == "bfloat16" else "float32"
    rows, learnt, most_rows, step = _step_size(options, lengths)
    passes = _epochs(options, lengths)
    epochs = float(passes.value)
    steps = plan_steps(
        [one[1] for one in lengths],
        epochs=epochs,
        rows_per_step=rows,
        learnt_per_step=learnt,
        seed=options.seed,
    )
    load = estimate.Load.of(method, facts, dtype, max((one[0] for one in lengths), default=1))
    at_once, recompute, held = _at_once(facts, machine, load)
    rate = _rate(options, method, facts)
    save = _save_dtype(options, facts)
    n_tokens = n_held_out + sum(one[0] for one in lengths)
    settings = Settings(
        device="cuda" if machine.gpu else "cpu",
        dtype=dtype,
        onednn=route.value == "float32-onednn",
        epochs=epochs,
        steps=len(steps),
        rows_per_step=rows,
        learnt_per_step=learnt,
        most_rows=most_rows,
        most_tokens=at_once,
        learning_rate=float(rate.value),
        warmup_ratio=options.warmup_ratio,
        weight_decay=options.weight_decay,
        max_grad_norm=options.max_grad_norm,
        max_length=max_length or facts.context,
        recompute=recompute,
        save_dtype=save.value,
        checkpoint_minutes=options.checkpoint_minutes,
        seed=options.seed,
        beside=load.footprint.n_attended,
        keeps_below=epochs > 1 and _keeps_below(facts, machine, load, save.value, n_tokens),
    )
    device = Chosen("device", settings.device, machine.gpu or f"{machine.n_cores} CPU cores, no GPU found")
    total = Chosen("steps", len(steps), f"{len(lengths)} rows x {epochs:g} epochs")
    chosen = () if options.epochs != "auto" else (passes,)
    return settings, (device, route, step, *chosen, total, held, rate, save)


def _epochs(options: Options, lengths: Sequence[tuple[int, int]]) -> Chosen:
    """Passes over the rows; the bounds are those of OpenAI's guide to chat tuning data, the last one is ours."""
    if options.epochs != "auto":
        return Chosen("epochs", options.epochs, "as the recipe says")
    n_rows, learnt = len(lengths), sum(one[1] for one in lengths)
    if all(own >= length - 1 for length, own in lengths):
        n = max(1, min(USUAL_EPOCHS, MOST_LEARNT // learnt))
        return Chosen("epochs", n, f"{learnt:,} tokens, all of them learnt; text that comes again and again gives less")
    if n_rows * USUAL_EPOCHS < LEAST_LOOKS:
        n = min(MOST_EPOCHS, -(-LEAST_LOOKS // n_rows))
        return Chosen("epochs", n, f"{n_rows} rows are few: {n_rows * n} looks at one, in at most {MOST_EPOCHS} passes")
    if n_rows * USUAL_EPOCHS > MOST_LOOKS or learnt * USUAL_EPOCHS > MOST_LEARNT:
        n = max(1, min(USUAL_EPOCHS, MOST_LOOKS // n_rows, MOST_LEARNT // learnt))
        return Chosen("epochs", n, f"{n_rows:,} rows with {learnt:,} learnt tokens are many: fewer passes will do")
    return Chosen("epochs", USUAL_EPOCHS, f"{n_rows:,} rows: the usual number of passes")


def _step_size(
    options: Options, lengths: Sequence[tuple[int, int]]
) -> tuple[int | None, int | None, int | None, Chosen]:
    """Rows a step, learnt tokens a step, rows at once, and what to say of them."""
    batch, several, tokens = options.batch_size, options.gradient_accumulation_steps, options.tokens_per_step
    if tokens != "auto":
        most = None if batch == "auto" else batch
        return None, tokens, most, Chosen("step", f"{tokens} learnt tokens", "as the recipe says")
    if batch != "auto":
        rows = batch * (1 if several == "auto" else several)
        said = f"{batch} x {1 if several == 'auto' else several}"
        return rows, None, batch, Chosen("step", f"{rows} rows", f"as the recipe says: {said}")
    mean = sum(one[0] for one in lengths) / max(1, len(lengths))
    rows = min(ROWS, max(1, len(lengths) // STEPS_AN_EPOCH), max(1, int(MOST_TOKENS_A_STEP / max(mean, 1))))
    why = f"{len(lengths)} rows of {mean:.0f} tokens: {-(-len(lengths) // rows)} steps an epoch"
    if several != "auto":
        rows = max(several, rows)
        return rows, None, -(-rows // several), Chosen("step", f"{rows} rows", f"{why}, in {several} batches")
    return rows, None, None, Chosen("step", f"{rows} rows", why)


def _at_once(facts: BaseFacts, machine: Machine, load: estimate.Load) -> tuple[int, bool, Chosen]:
    """Tokens that go through the model at once, and whether activations are computed again to save memory."""
    room = int(machine.learning_memory_bytes * 0.85) - estimate.standing_bytes(load)
    most = MOST_LEARNT_AT_ONCE if not machine.gpu else 8 * MOST_LEARNT_AT_ONCE
    wanted = max(most, load.longest)
    for recompute in (False, True):
        fits = int(room / estimate.token_bytes(facts, load, recompute=recompute))
        if fits >= load.longest:
            held = min(wanted, fits)
            why = (
                "fits in memory with every activation kept"
                if not recompute
                else "activations are computed twice to fit in memory"
            )
            return held, recompute, Chosen("tokens_at_once", held, why)
    return load.longest, True, Chosen("tokens_at_once", load.longest, "the longest row; more than the memory holds")


def _keeps_below(facts: BaseFacts, machine: Machine, load: estimate.Load, save_dtype: str, tokens: int) -> bool:
    """Whether layers go forward only, and the disk has room for what they give beside what the run leaves there."""
    room = machine.free_disk_bytes - estimate.disk_bytes(facts, load, save_dtype)
    return load.footprint.lowest > 0 and estimate.below_bytes(facts, tokens) <= room


def _rate(options: Options, method: Moves, facts: BaseFacts) -> Chosen:
    """The method's rate for a billion weights, with the root of the size: small models want, and bear, larger steps."""
    if options.learning_rate != "auto":
        return Chosen("learning_rate", options.learning_rate, "as the recipe says")
    factor = min(max((BILLION / facts.n_parameters) ** 0.5, 0.25), 4.0)
    rate = float(f"{method.learning_rate * factor:.2g}")
    why = f"the method's {method.learning_rate:g} for a billion weights, here {facts.n_parameters / 1e6:,.0f} million"
    return Chosen("learning_rate", rate, why)


def _save_dtype(options: Options, facts: BaseFacts) -> Chosen:
    if options.save_dtype != "auto":
        return Chosen("save_dtype", options.save_dtype, "as the recipe says")
    small = facts.n_parameters < BILLION
    why = f"{facts.n_parameters / 1e6:.0f} M weights: " + ("small enough to lose nothing" if small else "half the disk")
    return Chosen("save_dtype", "float32" if small else "bfloat16", why)
