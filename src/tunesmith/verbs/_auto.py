"""What a recipe leaves to the plan of its method: which one, and how much it can hold. Each answer has its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunesmith.machine import Chosen, choose_route, measure
from tunesmith.methods.full import Full
from tunesmith.methods.lora import Lora
from tunesmith.methods.qlora import Qlora
from tunesmith.recipe import OpenMethod

if TYPE_CHECKING:
    from tunesmith.verbs._ready import Ready
    from tunesmith.weights.facts import BaseFacts

SMALL_BASE = 500_000_000  # weights: below, tuning all of them was measured to be little slower than LoRA
MANY_ROWS = 1_000  # from which tuning all of them was measured to reach more: docs/compared.md
ROOM = 0.85  # of the memory that is taken, as for the tokens at once
RANKS = (8, 16, 32, 64, 128)
TOKENS_A_WEIGHT = 2
"""Learnt tokens that a weight of an update is taken to hold: a rule of ours that was not measured."""


def is_open(method: Any) -> bool:
    """Whether a value of the method has to be chosen once the rows are known."""
    return isinstance(method, OpenMethod) or getattr(method, "rank", None) == "auto"


def stand_in(method: Any) -> Any:
    """What is asked while the method is not chosen: all those that may be chosen leave the text as it is."""
    return Lora(rank="auto") if isinstance(method, OpenMethod) else method


def choose(ready: Ready, facts: BaseFacts) -> tuple[Any, tuple[Chosen, ...]]:
    """The method with nothing open, and what was chosen."""
    method, told = ready.recipe.method, list[Chosen]()
    if isinstance(method, OpenMethod):
        method, why = _method(ready, facts)
        told.append(Chosen("method", type(method).kind, why))
    if getattr(method, "rank", None) == "auto":
        rank = rank_for(sum(learnt for _, learnt in ready.lengths), method.model_copy(update={"rank": 1}), facts)
        method, told = method.model_copy(update={"rank": rank.value}), [*told, rank]
    return method, tuple(told)


def rank_for(learnt: int, of_rank_one: Any, facts: BaseFacts) -> Chosen:
    """The least rank whose update holds so many learnt tokens; never wider than the narrowest layer."""
    a_rank = of_rank_one.trainable(facts)
    widest = of_rank_one.narrowest(facts) or RANKS[-1]
    fit = [rank for rank in RANKS if rank <= widest] or [widest]
    enough = [rank for rank in fit if rank * a_rank * TOKENS_A_WEIGHT >= learnt]
    rank = enough[0] if enough else fit[-1]
    weights = f"{rank * a_rank:,} weights for {learnt:,} learnt tokens"
    why = f"the least that holds them: {weights}" if enough else f"as wide as it may be: {weights}"
    return Chosen("rank", rank, why)


def _method(ready: Ready, facts: BaseFacts) -> tuple[Any, str]:
    rows, memory = len(ready.lengths), ready.machine.learning_memory_bytes
    dtype: Any = "bfloat16" if choose_route(measure(ready.machine), ready.recipe.run.dtype).value == "bfloat16" else ""
    longest = max(length for length, _ in ready.lengths)
    full, lora = (_takes(one, facts, dtype or "float32", longest) for one in (Full(), Lora()))
    return choose_method(
        n_parameters=facts.n_parameters,
        n_rows=rows,
        memory_bytes=memory,
        full_bytes=full,
        lora_bytes=min(lora, _takes(Lora(), facts, "bfloat16", longest)),
    )


def choose_method(
    *, n_parameters: int, n_rows: int, memory_bytes: int, full_bytes: int, lora_bytes: int
) -> tuple[Any, str]:
    """All weights of a small base where there is much data and memory; LoRA; over four bits where memory is short."""
    room = ROOM * memory_bytes
    size = f"{n_parameters / 1e6:,.0f} million weights, {n_rows:,} rows"
    if n_parameters <= SMALL_BASE and n_rows >= MANY_ROWS and full_bytes <= room:
        return Full(), f"{size}: a small base and many rows, and all its weights fit in memory as they learn"
    if lora_bytes > room:
        has = f"{memory_bytes / 1e9:.1f} GB are here"
        return Qlora(rank="auto"), f"LoRA on the base in bfloat16 takes {lora_bytes / 1e9:.1f} GB, and {has}"
    return Lora(rank="auto"), f"{size}: an update beside the base's weights learns this with less memory"


def _takes(method: Any, facts: BaseFacts, dtype: Any, longest: int) -> int:
    """The least memory that it learns in: the longest row alone, its activations computed twice."""
    from tunesmith.weights import estimate

    load = estimate.Load.of(method, facts, dtype, longest)
    return estimate.memory_bytes(facts, load, tokens_at_once=longest, recompute=True)
