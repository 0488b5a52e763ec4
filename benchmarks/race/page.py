"""The table in docs/speed.md and in the README, and docs/images/speed.svg, from the results."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

import course_page
from course_page import short
from gates import STRETCH
from works import COURSE_STEPS

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "benchmarks"))

import marked  # noqa: E402 - what all benchmarks share lies a folder above

PAGES, PICTURE = (ROOT / "docs" / "speed.md", ROOT / "README.md"), ROOT / "docs" / "images" / "speed.svg"
COURSES = ROOT / "docs" / "images" / "courses.svg"
BEGIN, END = "<!-- table: python benchmarks/race --table -->", "<!-- end of table -->"
BAR, GAP, LEFT, WIDTH = 16, 10, 250, 760


def write(tree: Mapping[str, Any], courses: Mapping[str, Any]) -> None:
    """Put the tables between their marks, and draw the pictures."""
    for path in PAGES:
        marked.put(path, BEGIN, END, table(tree, courses))
    PICTURE.write_text(picture(tree), encoding="utf-8")
    marked.put(PAGES[0], course_page.BEGIN, course_page.END, course_page.table(courses))
    COURSES.write_text(course_page.picture(courses), encoding="utf-8")


def lines(tree: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(work, machine, row) of all results that have a peer."""
    for work, machines in tree.items():
        for machine, row in machines.items():
            if row["ratios"]:
                yield work, machine, row


def machines(tree: Mapping[str, Any]) -> str:
    """Where all of it was measured, when, and with what; peers with environments of their own have others."""
    found: dict[str, dict[str, str]] = {}
    for _, machine, row in lines(tree):
        versions = found.setdefault(f"{machine}, {row['date']}", {})
        for side in row["sides"].values():
            told = {name: one for name, one in side.get("versions", {}).items() if name != "tunesmith"}
            versions |= told | versions  # tunesmith's come first, and stay
    return "; ".join(", ".join([at, *(" ".join(one) for one in told.items())]) for at, told in found.items())


def table(tree: Mapping[str, Any], courses: Mapping[str, Any]) -> str:
    """A line for each work on each machine: tunesmith, the best peer, and the ratios."""
    head = f"Measured on: {machines(tree)}.\n\n" + (
        "| work | machine | tunesmith | best setting of a peer | ratio | memory | share of the product | gates |\n"
        "|---|---|---|---|---|---|---|---|\n"
    )
    told = "".join(_line(work, machine, row, courses) for work, machine, row in lines(tree))
    return head + told + "".join(_ends(tree))


def _ends(tree: Mapping[str, Any]) -> Iterator[str]:
    """Of works whose held-out loss was told: where each side ended, and when."""
    for work, _, row in lines(tree):
        ours, best = row["sides"]["tunesmith"], row["ratios"]["best_peer"]
        theirs = row["sides"][best]
        if "held_out_loss" in ours and "held_out_loss" in theirs:
            wall = theirs["wall_seconds"] / ours["wall_seconds"]
            yield (
                f"\n{work}, from the start of the process to the end of the last step: {ours['wall_seconds']:.0f} s "
                f"to a held-out loss of {ours['held_out_loss']:.4f}; {best} {theirs['wall_seconds']:.0f} s "
                f"to {theirs['held_out_loss']:.4f}: **{wall:.1f}x**{_otherwise(row)}.\n"
            )


def _otherwise(row: Mapping[str, Any]) -> str:
    """What peers are given in place of what tunesmith chooses."""
    peers = row.get("peers")
    if not peers:
        return ""
    ours = f"{row['steps']} steps at {row['learning_rate']:.2g}, the rate that its plan chooses"
    return f" ({ours}, beside {peers['steps']} at {peers['learning_rate']:.2g}, the rate of TRL's documentation)"


def _line(work: str, machine: str, row: Mapping[str, Any], courses: Mapping[str, Any]) -> str:
    ours, best = row["sides"]["tunesmith"], row["ratios"]["best_peer"]
    theirs = row["sides"][best]
    cells = (
        work,
        short(machine),
        _told(ours),
        f"{best}: {_told(theirs)}",
        f"**{row['ratios']['speed']:.1f}x**",
        f"{ours['peak_bytes'] / 1e9:.1f} of {theirs['peak_bytes'] / 1e9:.1f} GB",
        f"{ours['share_of_product']:.0%} of {max(row['products_gflops'].values()):.0f} GFLOP/s",
        _gates(ours["gates"], courses.get(work, {}).get(machine, {}).get("sides", {}).get("tunesmith", {})),
    )
    return "| " + " | ".join(cells) + " |\n"


def _told(one: Mapping[str, Any]) -> str:
    return f"{one['learnt_tokens_per_second']:.0f} learnt tokens/s, {one['rows_per_second']:.2g} rows/s"


def _gates(told: Mapping[str, Any], course: Mapping[str, Any]) -> str:
    """What is red, and whether a course was judged over enough steps: in the race itself, or by itself."""
    judged = {**told, "course": told.get("course", {})}
    if judged["course"].get("stretches", 0) * STRETCH < COURSE_STEPS:
        judged["course"] = course.get("gates", {}).get("course", {})
    red = [name for name, one in judged.items() if isinstance(one, Mapping) and one and not one["green"]]
    missing = "" if judged["course"] else "; course not judged"
    return ("red: " + ", ".join(red) if red else "green") + missing


def picture(tree: Mapping[str, Any]) -> str:
    """A bar for each side of each work, as long as it is fast beside the fastest of its work."""
    drawn: list[str] = []
    drawn.append('<text x="10" y="20">Learnt tokens a second, each work on one machine</text>')
    at = 34
    for work, machine, row in lines(tree):
        title = escape(f"{work} ({short(machine)})")
        drawn.append(f'<text x="10" y="{at + 12}" font-weight="bold">{title}</text>')
        at += BAR + 6
        sides = {name: one for name, one in row["sides"].items() if "refused" not in one}
        most = max(one["learnt_tokens_per_second"] for one in sides.values())
        for name, one in sides.items():
            speed = one["learnt_tokens_per_second"]
            length = round((WIDTH - LEFT - 130) * speed / most)
            colour = "#2b6cb0" if name.startswith("tunesmith") else "#a0aec0"
            drawn.append(f'<text x="{LEFT - 8}" y="{at + 12}" text-anchor="end">{escape(name)}</text>')
            drawn.append(f'<rect x="{LEFT}" y="{at}" width="{max(length, 1)}" height="{BAR}" fill="{colour}"/>')
            drawn.append(f'<text x="{LEFT + length + 6}" y="{at + 12}">{speed:.0f} tokens/s</text>')
            at += BAR + 4
        at += GAP
    size = f'width="{WIDTH}" height="{at}" viewBox="0 0 {WIDTH} {at}"'
    style = 'font-family="sans-serif" font-size="12" fill="#1a202c"'
    ground = f'<rect width="{WIDTH}" height="{at}" fill="#ffffff"/>'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{ground}{"".join(drawn)}</svg>\n'
