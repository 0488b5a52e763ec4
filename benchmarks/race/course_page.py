"""The courses of losses in docs/speed.md: a table, and a picture in which each work has a field of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from gates import STRETCH

BEGIN, END = "<!-- courses: python benchmarks/race --table -->", "<!-- end of courses -->"
EXACT, PEER, OURS, OURS_EXACT = "hf", "hf-bf16", "tunesmith", "tunesmith-fp32"
DRAWN = ((EXACT, "#cbd5e0", 5.0), (PEER, "#dd6b20", 1.2), (OURS, "#2b6cb0", 1.2))
"""Sides, their colour and how wide their line is: the peer in float32 lies under the others."""
LEAST_TOLD = 1e-5
FIELD, HIGH, GAP, ACROSS, TOP = 270, 140, 44, 3, 40


def table(tree: Mapping[str, Any]) -> str:
    """A line for each work: how far each side's course is from that of Trainer + PEFT in float32."""
    columns = ("work", "machine", "steps", f"loss, first and last {STRETCH}")
    columns += ("tunesmith", "Trainer in bf16", "tunesmith in fp32", "allowed in bf16, in fp32", "gate")
    head = "| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|\n"
    return head + "".join(_line(work, machine, row) for work, machine, row in lines(tree))


def lines(tree: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(work, machine, row) of all courses that have what they are held against."""
    for work, machines in tree.items():
        for machine, row in machines.items():
            if "losses" in row["sides"].get(EXACT, {}):
                yield work, machine, row


def _line(work: str, machine: str, row: Mapping[str, Any]) -> str:
    sides = row["sides"]
    exact = sides[EXACT]["losses"]
    ends = [sum(part) / len(part) for part in (exact[:STRETCH], exact[-STRETCH:])]
    cells = (
        work,
        short(machine),
        f"{row['steps']} x {row['rows_a_step']} rows, {row['tokens_a_step']:,} tokens each",
        f"{ends[0]:.3f}, {ends[1]:.3f}",
        *(_off(sides.get(name, {})) for name in (OURS, PEER, OURS_EXACT)),
        ", ".join(_allowed(sides[name]) for name in (OURS, OURS_EXACT) if name in sides),
        verdict({name: sides[name] for name in (OURS, OURS_EXACT) if name in sides}),
    )
    return "| " + " | ".join(cells) + " |\n"


def _off(side: Mapping[str, Any]) -> str:
    course = side.get("gates", {}).get("course")
    if not course:
        return "not run"
    return f"{100 * course['largest']:.2g} %" if course["largest"] >= LEAST_TOLD else f"below {100 * LEAST_TOLD:g} %"


def _allowed(side: Mapping[str, Any]) -> str:
    return f"{100 * side['gates']['course']['bound']:.2g} %" if "course" in side["gates"] else "not run"


def verdict(sides: Mapping[str, Any]) -> str:
    """Which of tunesmith's courses are red; first losses and gradients are judged in the race, over larger steps."""
    red = [name for name, side in sides.items() if not side["gates"].get("course", {"green": False})["green"]]
    return "red: " + ", ".join(red) if red else "green"


def short(machine: str) -> str:
    """Its maker and what it has for bfloat16."""
    maker, _, rest = machine.partition(",")
    return f"{maker.split('(')[0].split()[0]}, {rest.split(',')[0].strip()}"


def picture(tree: Mapping[str, Any]) -> str:
    """Losses by step, one field for each work, from its least loss to its largest."""
    fields = list(lines(tree))
    width = ACROSS * (FIELD + GAP) + GAP
    height = TOP + -(-len(fields) // ACROSS) * (HIGH + GAP)
    drawn = list(_legend())
    for number, (work, machine, row) in enumerate(fields):
        left = GAP + number % ACROSS * (FIELD + GAP)
        drawn += _field(left, TOP + number // ACROSS * (HIGH + GAP), f"{work} ({short(machine)})", row["sides"])
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    style = 'font-family="sans-serif" font-size="11" fill="#1a202c"'
    ground = f'<rect width="{width}" height="{height}" fill="#ffffff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{ground}{"".join(drawn)}</svg>\n'


def _legend() -> Iterator[str]:
    words = {EXACT: "Trainer + PEFT, float32", PEER: "Trainer + PEFT, bfloat16", OURS: "tunesmith, as its plan chooses"}
    at = GAP
    for name, colour, wide in DRAWN:
        yield f'<line x1="{at}" y1="14" x2="{at + 22}" y2="14" stroke="{colour}" stroke-width="{wide}"/>'
        yield f'<text x="{at + 28}" y="18">{escape(words[name])}</text>'
        at += 220


def _field(left: float, top: float, title: str, sides: Mapping[str, Any]) -> Iterator[str]:
    courses = {name: sides[name]["losses"] for name, _, _ in DRAWN if "losses" in sides.get(name, {})}
    ends = [end(end(course) for course in courses.values()) for end in (min, max)]
    yield f'<text x="{left}" y="{top + 8}" font-weight="bold">{escape(title)}</text>'
    yield f'<text x="{left - 4}" y="{top + 24}" text-anchor="end">{ends[1]:.2g}</text>'
    yield f'<text x="{left - 4}" y="{top + HIGH}" text-anchor="end">{ends[0]:.2g}</text>'
    yield f'<text x="{left + FIELD}" y="{top + HIGH + 14}" text-anchor="end">{len(courses[EXACT])} steps</text>'
    yield f'<path d="M{left} {top + 16}V{top + HIGH}H{left + FIELD}" fill="none" stroke="#a0aec0"/>'
    for name, colour, wide in DRAWN:
        if name in courses:
            points = _points(courses[name], left, top + 16, *ends)
            line = f'fill="none" stroke="{colour}" stroke-width="{wide}" stroke-linejoin="round"'
            yield f'<polyline points="{points}" {line}/>'


def _points(losses: Sequence[float], left: float, top: float, least: float, most: float) -> str:
    """By the logarithm of the loss, so that small losses that differ show it as large ones do."""
    across, high = FIELD / max(len(losses) - 1, 1), (HIGH - 16) / math.log(max(most / least, 1 + 1e-9))
    return " ".join(
        f"{left + n * across:.1f},{top + high * math.log(most / loss):.1f}" for n, loss in enumerate(losses)
    )
