"""A proof as a page: the verdict, the arms as plots, the rows won and lost, all in one file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.verbs._page import render
from tunesmith.verbs._proof_arms import number

if TYPE_CHECKING:
    from tunesmith.verbs._proof import Proof
    from tunesmith.verbs._proof_arms import Arm

TEMPLATE = "page_of_proof.html.jinja"
LEFT, RIGHT, WIDTH, STEP = 250.0, 172.0, 740.0, 30.0  # of a plot of arms, in its own units
LOSS_WIDTH, LOSS_HEIGHT, LOSS_LEFT = 720.0, 200.0, 44.0
N_POINTS = 400  # of a curve: more are not seen
N_ROWS = 40  # that are shown as won, and as lost
LONGEST_NAME = 34  # characters that fit beside a plot
SHARES = ("macro_f1", "outside", "valid", "precision", "recall", "f1", "graded")  # among what all rows have together


@dataclass(frozen=True)
class Mark:
    """One arm in a plot: its bar or point, the ends of its interval, and what stands beside it."""

    y: float
    name: str
    x: float
    low: float
    high: float
    told: str
    style: str


@dataclass(frozen=True)
class Plot:
    """Arms below each other."""

    title: str
    note: str
    marks: tuple[Mark, ...]
    is_bars: bool

    @property
    def height(self) -> float:
        """In its own units."""
        return STEP * len(self.marks) + 6


@dataclass(frozen=True)
class Whole:
    """What a metric says of all rows together: a row an arm; and what the tuned model takes for what most often."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    confused: tuple[Mapping[str, Any], ...]


def page(proof: Proof) -> str:
    """The page as HTML."""
    return render(
        TEMPLATE,
        proof=proof,
        tree=proof.as_json(),
        plots=[_quality(proof), *_costs(proof.arms), _lengths(proof.arms)],
        wholes=_wholes(proof),
        size={"left": LEFT, "width": WIDTH, "right": WIDTH - RIGHT},
        curve=_curve(proof),
        parity=_parity(proof),
        sides=[("won", proof.won), ("lost", proof.lost)],
        n_rows=N_ROWS,
        others=[name for name in proof.chosen if name != proof.metric.kind],
        said=_said,
        percent_of=_share,
        size_of=_size,
        whole=_whole_number,
    )


def _quality(proof: Proof) -> Plot:
    kind, unit = proof.metric.kind, proof.metric.unit
    arms = [one for one in proof.arms if kind in one.quality]
    most = 1.0 if unit == "share" else max(_end(one.quality[kind].high, one.quality[kind].value) for one in arms) or 1.0
    marks = []
    for at, one in enumerate(arms):
        found = one.quality[kind]
        low, high = (_end(end, found.value) for end in (found.low, found.high))
        told = f"{_said(found.value, unit)} ({_said(low, unit)} to {_said(high, unit)})"
        marks.append(_mark(at, one, (found.value, low, high), most, told))
    better = "higher" if proof.metric.higher_is_better else "lower"
    return Plot(
        f"Quality: {kind.replace('_', ' ')}", f"with its 95 % interval; {better} is better", tuple(marks), False
    )


def _costs(arms: Sequence[Arm]) -> list[Plot]:
    def tokens(one: Arm) -> float:
        return one.prompt_tokens + one.answer_tokens

    def told(one: Arm) -> str:
        return f"{one.prompt_tokens:,.0f} + {one.answer_tokens:,.0f}"

    def milliseconds(one: Arm) -> str:
        first = one.first_milliseconds
        return f"{one.milliseconds:,.0f}" + ("" if first is None else f", first {first:,.0f}")

    timed = [one for one in arms if one.milliseconds is not None]
    counted = [one for one in arms if tokens(one)]  # which not every server does
    return [
        _bars("Tokens a request", "prompt + answer, on average", counted, tokens, told),
        _bars(
            "Milliseconds a request", "asked one at a time", timed, lambda one: one.milliseconds or 0.0, milliseconds
        ),
    ]


def _lengths(arms: Sequence[Arm]) -> Plot:
    """How long the answers are: the middle one, and all but the shortest and the longest twentieth."""
    arms = [one for one in arms if one.answer_tokens]
    counts = [sorted(said.answer.n_answer_tokens for said in one.said) for one in arms]
    most = max((one[-1] for one in counts), default=0) or 1
    marks = []
    for at, (one, lengths) in enumerate(zip(arms, counts, strict=True)):
        low, middle, high = (float(lengths[round(share * (len(lengths) - 1))]) for share in (0.05, 0.5, 0.95))
        marks.append(_mark(at, one, (middle, low, high), most, f"{middle:,.0f} ({low:,.0f} to {high:,.0f})"))
    return Plot("Length of the answers", "tokens: the middle one, and nine tenths of all", tuple(marks), False)


def _bars(
    title: str, note: str, arms: Sequence[Arm], value: Callable[[Arm], float], told: Callable[[Arm], str]
) -> Plot:
    most = max((value(one) for one in arms), default=0.0) or 1.0
    marks = (_mark(at, one, (value(one),) * 3, most, told(one)) for at, one in enumerate(arms))
    return Plot(title, note, tuple(marks), True)


def _mark(at: int, one: Arm, values: tuple[float, float, float], most: float, told: str) -> Mark:
    x, low, high = (round(LEFT + (WIDTH - LEFT - RIGHT) * value / most, 2) for value in values)
    name = one.title if len(one.title) <= LONGEST_NAME else f"{one.title[: LONGEST_NAME - 3]}..."
    return Mark(STEP * at + STEP / 2, name, x, low, high, told, "tuned" if one.name.startswith("tuned") else "plain")


def _wholes(proof: Proof) -> list[Whole]:
    """A table for each metric that says something of all rows together."""
    made = []
    for kind in proof.chosen:
        told = {one.title: one.together[kind] for one in proof.arms if one.together.get(kind)}
        tuned = told.get("tuned", {})
        heads = tuple(name for name, value in tuned.items() if isinstance(value, float))
        if not heads:
            continue
        rows = tuple((arm, *(_together(name, found.get(name)) for name in heads)) for arm, found in told.items())
        pairs = tuned.get("confused")
        made.append(Whole(kind, heads, rows, tuple(pairs) if isinstance(pairs, list) else ()))
    return made


def _together(name: str, value: object) -> str:
    if not isinstance(value, float):
        return ""
    return f"{value:.1%}" if name in SHARES else f"{value:,.2f}".removesuffix(".00")


def _curve(proof: Proof) -> dict[str, Any] | None:
    """The losses of the tuning as lines; None where there are none."""
    from tunesmith.learn.log import read

    lines = read(proof.run.folder)
    seen = {
        key: [(float(one["step"]), float(one[key])) for one in lines if key in one] for key in ("loss", "held_out_loss")
    }
    points = [point for side in seen.values() for point in side if math.isfinite(point[1])]
    if not points:
        return None
    last, highest = max(x for x, _ in points) or 1.0, max(y for _, y in points) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            round(LOSS_LEFT + (LOSS_WIDTH - LOSS_LEFT) * x / last, 1),
            round(LOSS_HEIGHT * (1 - y / highest), 1),
        )

    def way(side: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        every = max(1, len(side) // N_POINTS)
        return [place(*point) for point in side[::every] if math.isfinite(point[1])]

    return {
        "width": LOSS_WIDTH,
        "height": LOSS_HEIGHT,
        "left": LOSS_LEFT,
        "loss": way(seen["loss"]),
        "held": way(seen["held_out_loss"]),
        "last": f"{last:g}",
        "highest": f"{highest:.2f}",
    }


def _parity(proof: Proof) -> list[Mapping[str, Any]]:
    """The findings of `check`, where it was called."""
    try:
        found = json.loads((proof.run.folder / "checks.json").read_text(encoding="utf-8"))["findings"]
        wanted = ("runtime", "export", "variant", "check", "verdict", "measured")
        return [{key: one.get(key) for key in wanted} for one in found]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _end(end: float, value: float) -> float:
    """The end of an interval; the value where one row alone has none."""
    return end if math.isfinite(end) else value


def _said(value: float | None, unit: str) -> str:
    return "" if value is None else number(value, unit)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _whole_number(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:,.0f}"


def _size(n: int | None) -> str:
    if not n:
        return "\N{EN DASH}"
    return f"{n / 1e6:,.1f} MB" if n < 1e9 else f"{n / 1e9:,.2f} GB"
