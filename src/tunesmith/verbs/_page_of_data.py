"""What an inspection found, as a page: one file that asks for nothing else and runs nothing.

All text of the data is escaped, and characters that would steer what a reader sees are written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.verbs._lengths import Bar, Lengths
from tunesmith.verbs._page import render

if TYPE_CHECKING:
    from tunesmith.verbs.inspect import Inspection

TEMPLATE = "page_of_data.html.jinja"
N_BARS = 24
N_GROUPS = 50
N_ANSWERS = 30
WIDTH, HEIGHT, FOOT = 720.0, 150.0, 22.0  # of the histogram, in its own units


@dataclass(frozen=True)
class Column:
    """A bar of the histogram, drawn."""

    x: float
    y: float
    width: float
    height: float
    name: str
    n: int


def page(found: Inspection, data: Sequence[str], model: str | None) -> str:
    """The page as HTML."""
    lengths = found.learnt.lengths if found.learnt else found.numbers.characters
    return render(
        TEMPLATE,
        found=found,
        data=", ".join(data),
        model=model,
        tiles=_tiles(found),
        lengths=lengths,
        unit="tokens" if found.learnt else "characters",
        columns=columns(lengths.bars(N_BARS)),
        ticks=_ticks(lengths),
        size={"width": WIDTH, "height": HEIGHT, "foot": FOOT},
        n_groups=N_GROUPS,
        n_answers=N_ANSWERS,
        examples=[*found.shown, *found.drawn],
        has_tokens=any(one.tokens for one in found.shown),
    )


def columns(bars: Sequence[Bar]) -> list[Column]:
    """The bars side by side, the highest as high as there is room; one that has any rows can be seen."""
    most = max((bar.n for bar in bars), default=0)
    width = WIDTH / max(len(bars), 1)
    made = []
    for number, bar in enumerate(bars):
        height = max(2.0, HEIGHT * bar.n / most) if bar.n else 0.0
        made.append(
            Column(
                round(number * width, 2),
                round(HEIGHT - height, 2),
                round(width * 0.86, 2),
                round(height, 2),
                bar.name,
                bar.n,
            )
        )
    return made


def _ticks(lengths: Lengths) -> list[tuple[float, str]]:
    """What stands below the bars: about six of the lengths at which they begin."""
    bars = lengths.bars(N_BARS)
    every = max(1, len(bars) // 6)
    width = WIDTH / max(len(bars), 1)
    last = len(bars) - 1
    is_open = bool(bars) and bars[-1].high is None
    wanted = [at for at in range(0, len(bars), every) if not is_open or last - at >= every]
    told = [(at, f"{bars[at].low:,}") for at in wanted]
    if is_open:
        told.append((last, f"> {bars[last].low - 1:,}"))
    return [(round(at * width, 2), name) for at, name in told]


def _tiles(found: Inspection) -> list[tuple[str, str, str]]:
    """The numbers that are read first: a number, what it counts, and what else to say of it."""
    numbers = found.numbers
    tiles = [(f"{found.n_usable:,}", "usable rows", f"of {found.n_rows:,}")]
    if found.learnt:
        total = found.learnt.n_prompt + found.learnt.n_learnt
        said = f"{found.learnt.n_learnt / total:.0%} learnt" if total else ""
        rows = f", in {found.learnt.n_rows:,} sampled rows" if found.n_sampled is not None else ""
        tiles.append((f"{total:,}", "tokens", said + rows))
    if numbers.turns.n:
        tiles.append(
            (f"{numbers.turns.mean:.1f}", "turns a row", f"{numbers.turns.quantile(0)} to {max(numbers.turns.counted)}")
        )
    lengths = found.learnt.lengths if found.learnt else numbers.characters
    unit = "tokens" if found.learnt else "characters"
    tiles.append(
        (f"{lengths.quantile(0.5):,}", f"{unit} in the middle row", f"longest {max(lengths.counted, default=0):,}")
    )
    if found.learnt:
        tiles.append(
            (
                f"{found.learnt.share_saved():.0%}",
                "saved by shared beginnings",
                f"{found.learnt.n_looked_at:,} rows in steps of 16",
            )
        )
    return tiles
