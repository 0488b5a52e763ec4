"""What makes a run fast, in numbers of this very run: how many tokens are computed, and why no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.learn.attention_parts import Laid, parts_of
from tunesmith.learn.attention_products import pays
from tunesmith.learn.batches import n_learnt, plan_steps
from tunesmith.learn.families import Family, Sharing, share_computed
from tunesmith.learn.settings import Settings
from tunesmith.machine import Chosen
from tunesmith.text.example import Tokens

SAMPLE = 32  # steps that are looked at: enough to know how alike the rows of a step begin


@dataclass(frozen=True)
class Work:
    """Tokens that the steps of a run have, all together."""

    n_rows: int
    tokens: int
    learnt: int
    computed: int
    """Where what the rows of a step begin with alike counts once."""
    padded: int
    """Where each row counts as the longest of its step: what padding would compute."""
    back_by_products: float
    """The share of attention, in pairs of a token and one that it sees, that goes back by products."""

    @classmethod
    def of(cls, rows: Sequence[Tokens], settings: Settings, window: int | None) -> Work:
        """That of rows under settings; `window` is the tokens that the narrowest attention sees."""
        learnt = [n_learnt(row) for row in rows]
        steps = plan_steps(
            learnt,
            epochs=settings.epochs,
            rows_per_step=settings.rows_per_step,
            learnt_per_step=settings.learnt_per_step,
            seed=settings.seed,
        )
        taken = [row for step in steps for row in step.rows]
        tokens = sum(len(rows[row].ids) for row in taken)
        padded = sum(len(step.rows) * max(len(rows[row].ids) for row in step.rows) for step in steps)
        looked_at = [step.rows for step in steps[:: max(1, len(steps) // SAMPLE)]]
        ids, lengths = [row.ids for row in rows], [len(row.ids) for row in rows]
        families = Sharing(window).of_steps(looked_at, ids)
        computed = round(tokens * share_computed(families, lengths))
        by_products = _share_by_products(families, lengths, settings)
        return cls(len(taken), tokens, sum(learnt[row] for row in taken), computed, padded, by_products)


def _share_by_products(families: Sequence[Family], lengths: Sequence[int], settings: Settings) -> float:
    parts = [part for one in families for part in parts_of((Laid.of(one, lengths),), settings.beside)]
    by_products = sum(part.n_pairs for part in parts if pays(part, settings.torch_dtype))
    return by_products / max(sum(part.n_pairs for part in parts), 1) if settings.device == "cpu" else 0.0


def told(work: Work, settings: Settings, *, lowest: int, n_layers: int) -> tuple[Chosen, ...]:
    """What the run does not compute, and why. `lowest` is the lowest layer that a gradient reaches."""
    padding = f"rows lie end to end; as long as the longest of their step they would be {work.padded:,} tokens"
    head = f"only they have a loss: {work.learnt / max(work.tokens, 1):.0%} of all"
    saved = work.tokens - work.computed
    shared = "what rows of a step begin with alike is computed once" if saved else "the rows do not begin alike"
    backward = "no weight below moves" if lowest else "weights move from the first layer on"
    return (
        Chosen("padding", "none", padding),
        Chosen("shared", f"{saved / max(work.tokens, 1):.0%} of the tokens", shared),
        Chosen("head", f"{work.learnt:,} tokens", head),
        Chosen("backward", f"{n_layers - lowest} of {n_layers} layers", backward),
        _attention_back(work, settings),
        *([_kept_below(settings, lowest)] if lowest else []),
    )


def _attention_back(work: Work, settings: Settings) -> Chosen:
    if work.back_by_products:
        how = f"{work.back_by_products:.0%} back by matrix products"
        return Chosen("attention", how, "in bfloat16, through long rows, they are faster than torch's kernel")
    if settings.device == "cuda":
        why = "on a GPU it goes back by what it went forward by"
    elif settings.dtype == "float32":
        why = "in float32 products are no faster"
    else:
        why = "through rows as short as these products are no faster"
    return Chosen("attention", "torch's kernel", why)


def _kept_below(settings: Settings, lowest: int) -> Chosen:
    if settings.keeps_below:
        return Chosen("below", "kept on disk", f"{lowest} layers give the same in each of {settings.epochs:g} epochs")
    why = "each row comes once" if settings.epochs <= 1 else "the disk has no room to keep what they give"
    return Chosen("below", "computed", f"{lowest} layers go forward each time: {why}")
