"""The training loop. It reads from top to bottom, knows no method by name, and never assumes that it is alone."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tunesmith import files, say
from tunesmith.errors import Fault, LearnError
from tunesmith.learn import log, optimizer, resume
from tunesmith.learn.attention import attending_per_document, narrowest_window
from tunesmith.learn.batches import Step, n_learnt, plan_steps, share, weight_of
from tunesmith.learn.below import kept_below
from tunesmith.learn.families import Sharing
from tunesmith.learn.kept_memory import kept_memory
from tunesmith.learn.lean_layers import lean_layers
from tunesmith.learn.lean_rotary import lean_rotary
from tunesmith.learn.loss import DocumentLoss, autocast, drops, inner, recompute_activations
from tunesmith.learn.settings import Settings
from tunesmith.learn.stop import asked_to_stop, interrupted
from tunesmith.text.example import Tokens


@dataclass(frozen=True)
class Learnt:
    """How a run of the loop ended. Losses are in nats a learnt token; `seconds` is over all its sittings."""

    steps: int
    seconds: float
    loss: float
    held_out_loss: float | None


@dataclass
class Course:
    """All that one sitting works with."""

    loss: nn.Module  # gives the summed loss of documents; spread over devices where there are several
    model: nn.Module
    optimizer: torch.optim.Optimizer
    rows: Sequence[Tokens]
    held_out: Sequence[Tokens]
    settings: Settings
    accelerator: Accelerator
    keeper: resume.Keeper
    run: Path
    fingerprint: str
    sharing: Sharing | None  # of beginnings, among rows that go through the model at once
    learnt: list[int] = field(init=False)
    ids: list[tuple[int, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self.learnt = [n_learnt(row) for row in self.rows]
        self.ids = [row.ids for row in self.rows]

    def portions(self, numbers: Sequence[int], ids: Sequence[tuple[int, ...]]) -> list[list[int]]:
        """What this process takes of some rows, by number, in portions that go through the model at once."""
        settings, accelerator = self.settings, self.accelerator
        each = share(
            numbers,
            ids,
            n=accelerator.num_processes,
            most_rows=settings.most_rows,
            most_tokens=settings.most_tokens,
            beside=settings.beside,
            sharing=self.sharing,
        )
        return each[accelerator.process_index]


def learn(
    model: nn.Module,
    rows: Sequence[Tokens],
    held_out: Sequence[Tokens],
    settings: Settings,
    *,
    keeper: resume.Keeper,
    run: Path,
    rates: Mapping[str, float] | None = None,
) -> Learnt:
    """Move the trainable weights of `model` by the rows, from the newest checkpoint in `run` where there is one.

    Leaves `metrics.jsonl`, `loss.svg` and the last checkpoint in the folder `run`. `rates` names weights that learn
    at a multiple of the run's rate.

    Raises:
        LearnError: `learn/interrupted` after Ctrl-C, with a checkpoint saved; `learn/not-finite`;
            `learn/other-trajectory`.
    """
    with under_way(model, rows, held_out, settings, keeper=keeper, run=run, rates=rates) as course:
        return _go(course, resume.restore(run, course.fingerprint, model, course.optimizer, keeper))


@contextmanager
def under_way(
    model: nn.Module,
    rows: Sequence[Tokens],
    held_out: Sequence[Tokens],
    settings: Settings,
    *,
    keeper: resume.Keeper,
    run: Path,
    rates: Mapping[str, float] | None = None,
) -> Iterator[Course]:
    """Everything that the steps of a run work with, put on within this block; see `learn`."""
    accelerator = Accelerator(cpu=settings.device == "cpu")
    model.to(accelerator.device).train()
    if settings.recompute:
        recompute_activations(model)
    with kept_memory(), _products(settings), ExitStack() as stack:
        plain = _loss(model, [row.ids for row in (*rows, *held_out)], settings, run, stack)
        moves = optimizer.make(model, settings, rates)
        loss, moves = accelerator.prepare(plain, moves)
        fingerprint = resume.fingerprint(settings, rows)
        yield Course(loss, model, moves, rows, held_out, settings, accelerator, keeper, run, fingerprint, plain.sharing)


def _loss(
    model: nn.Module, ids: Sequence[tuple[int, ...]], settings: Settings, run: Path, stack: ExitStack
) -> DocumentLoss:
    """The loss of the model, by whatever way this model can go; `stack` puts it back as it was. `ids` of all rows."""
    device, dtype = torch.device(settings.device), settings.torch_dtype
    with autocast(device, dtype):  # frozen weights may be of another type than others
        together = stack.enter_context(attending_per_document(inner(model)))
        if not together:
            say.note("this architecture cannot take several documents in one row; they go through one by one")
        stack.enter_context(lean_layers(model, dtype))
        stack.enter_context(lean_rotary(model))
        exact = together and not drops(model)
        sharing = Sharing(narrowest_window(inner(model))) if exact else None
        below = stack.enter_context(kept_below(model, ids, run)) if exact and settings.keeps_below else None
    return DocumentLoss(model, dtype=dtype, together=together, sharing=sharing, below=below)


def _go(course: Course, state: resume.State | None) -> Learnt:
    """From the state on, to the last step."""
    begun, seconds = (state.step, state.seconds) if state else (0, 0.0)
    steps = course_steps(course.settings, course.learnt)
    metrics = log.Metrics(course.run, begun) if course.accelerator.is_main_process else None
    began = time.monotonic()
    if begun == 0:
        _hold_out(course, 0, metrics)
    saved = time.monotonic()
    with asked_to_stop() as stop, say.progress("tune", len(steps), "steps") as bar:
        bar.advance(begun)
        for step in steps[begun:]:
            told = take_step(course, step)
            if metrics:
                metrics.write(told)
            bar.advance(1, f"loss {told['loss']:.3f}")
            if step.ends_epoch:
                _hold_out(course, step.number, metrics)
            now = time.monotonic()
            stopping = stop.is_set() and step.number < len(steps)
            if step.ends_epoch or stopping or now - saved > 60 * course.settings.checkpoint_minutes:
                keep(course, step.number, seconds + now - began)
                saved = time.monotonic()
            if stopping:
                raise interrupted(course.run, step.number, len(steps))
        if stop.is_set():  # in the last step: what comes after the loop is not begun
            raise interrupted(course.run, len(steps), len(steps))
    if metrics:
        metrics.close()
    return _ended(course, len(steps), seconds + time.monotonic() - began)


def course_steps(settings: Settings, learnt: Sequence[int]) -> list[Step]:
    """The steps of a run, each with its rows."""
    return plan_steps(
        learnt,
        epochs=settings.epochs,
        rows_per_step=settings.rows_per_step,
        learnt_per_step=settings.learnt_per_step,
        seed=settings.seed,
    )


def take_step(course: Course, step: Step) -> dict[str, Any]:
    """Gradients of all rows of the step, added up, then one move. Gives its line for the metrics."""
    settings, accelerator = course.settings, course.accelerator
    began = time.perf_counter()
    n_processes, mine = accelerator.num_processes, accelerator.process_index
    torch.manual_seed(settings.seed * 1_000_003 + step.number * 131 + mine)  # dropout follows from the step alone
    rate = optimizer.rate(step.number, settings)
    optimizer.set_rate(course.optimizer, rate)
    weight = sum(weight_of(course.rows[row]) for row in step.rows)
    work = course.portions(step.rows, course.ids)
    total = torch.zeros((), device=accelerator.device)
    for number, portion in enumerate(work, 1):
        last = number == len(work)
        with nullcontext() if last else accelerator.no_sync(course.loss):
            loss = course.loss([course.rows[row] for row in portion])
            # Over the learnt tokens of the whole step; the average over the processes is made a sum again.
            accelerator.backward(loss * (n_processes / weight))
        total += loss.detach()
    norm = _norm(course)
    mean = float(accelerator.reduce(total)) / weight
    _finite(mean, norm, step.number)
    course.optimizer.step()
    course.optimizer.zero_grad(set_to_none=True)
    return {
        "step": step.number,
        "epoch": round(step.epoch, 6),
        "loss": mean,
        "learning_rate": rate,
        "gradient_norm": norm,
        "learnt_tokens": sum(course.learnt[row] for row in step.rows),
        "tokens": sum(len(course.rows[row].ids) for row in step.rows),
        "seconds": round(time.perf_counter() - began, 4),
    }


def _norm(course: Course) -> float:
    trainable = [weight for weight in course.model.parameters() if weight.requires_grad]
    norm: Tensor = course.accelerator.clip_grad_norm_(trainable, course.settings.max_grad_norm)
    return float(norm)


def _finite(loss: float, norm: float, step: int) -> None:
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise LearnError(
            Fault(
                "learn/not-finite",
                f"the loss of step {step} is {loss} and its gradient norm {norm}: the weights would be lost",
                fix="lower run.learning_rate, or set run.dtype: float32; the last checkpoint is kept",
            )
        )


def held_out_loss(course: Course) -> float | None:
    """Mean loss over the learnt tokens of the held-out rows; None where there are none."""
    rows, accelerator = course.held_out, course.accelerator
    weight = sum(weight_of(row) for row in rows)
    if not weight:
        return None
    work = course.portions(range(len(rows)), [row.ids for row in rows])
    total = torch.zeros((), device=accelerator.device)
    course.model.eval()
    with torch.no_grad(), say.progress("held-out loss", len(work), "portions") as bar:
        for portion in work:
            total += course.loss([rows[row] for row in portion])
            bar.advance(1)
    course.model.train()
    return float(accelerator.reduce(total)) / weight


def _hold_out(course: Course, step: int, metrics: log.Metrics | None) -> None:
    loss = held_out_loss(course)
    if metrics and loss is not None:
        metrics.write({"step": step, "held_out_loss": loss})


def keep(course: Course, step: int, seconds: float) -> None:
    """Processes hold the same weights, so the first one writes for all."""
    if not course.accelerator.is_main_process:
        return
    state = resume.State(step, course.fingerprint, round(seconds, 3))
    resume.write(course.run, state, course.model, course.optimizer, course.keeper)
    files.write_text(course.run / "loss.svg", log.loss_svg(log.read(course.run)))


def _ended(course: Course, steps: int, seconds: float) -> Learnt:
    course.accelerator.wait_for_everyone()
    lines = log.read(course.run)
    losses = [line["loss"] for line in lines if "loss" in line][-20:]
    held = [line["held_out_loss"] for line in lines if "held_out_loss" in line]
    return Learnt(steps, seconds, sum(losses) / len(losses), held[-1] if held else None)


@contextmanager
def _products(settings: Settings) -> Iterator[None]:
    """The library that float32 products go to, as it was measured to be best here."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if settings.onednn else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
