"""What a run says of itself while it learns: a line a step in metrics.jsonl, and the losses as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith import files

METRICS = "metrics.jsonl"


class Metrics:
    """`metrics.jsonl`: a line a step, on the disk at once. What was said after the last checkpoint goes on resume."""

    def __init__(self, folder: Path, after_step: int) -> None:
        self.path = folder / METRICS
        kept = [line for line in read(folder) if line["step"] <= after_step] if after_step else []
        files.write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, line: Mapping[str, Any]) -> None:
        """One more line."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """No more lines."""
        self._file.close()


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics; a last line that a kill cut short is left out."""
    try:
        text = (folder / METRICS).read_text(encoding="utf-8")
    except OSError:
        return []
    lines = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 360, 56, 40, 36, 16


def loss_svg(lines: Sequence[Mapping[str, Any]]) -> str:
    """The loss of each step, its running mean, and the held-out loss, as a small SVG."""
    steps = [(float(line["step"]), float(line["loss"])) for line in lines if "loss" in line]
    held = [(float(line["step"]), float(line["held_out_loss"])) for line in lines if "held_out_loss" in line]
    shown = steps + held
    if not shown:
        return f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}"></svg>\n'
    last, highest = max(x for x, _ in shown), max(y for _, y in shown) * 1.05 or 1.0

    def place(x: float, y: float) -> str:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / last if last else LEFT
        return f"{across:.1f},{HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * y / highest:.1f}"

    def line(points: Sequence[tuple[float, float]], colour: str, width: float) -> str:
        way = " ".join(place(x, y) for x, y in points)
        return f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="{width}"/>'

    marks = [_mark(place(0, highest * part), f"{highest * part:.2f}") for part in (0, 0.25, 0.5, 0.75, 1)]
    dots = [
        f'<circle cx="{place(x, y).split(",")[0]}" cy="{place(x, y).split(",")[1]}" r="3.5" fill="#c2410c"/>'
        for x, y in held
    ]
    ends = (
        f'<text x="{LEFT}" y="{HEIGHT - 14}">step 0</text>'
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 14}" text-anchor="end">step {last:g}</text>'
    )
    legend = (
        f'<text x="{LEFT}" y="20"><tspan fill="#93b4e8">loss of a step</tspan>'
        '<tspan dx="16" fill="#1d4ed8">running mean</tspan><tspan dx="16" fill="#c2410c">held-out loss</tspan>'
        '<tspan dx="16" fill="#555">nats a token</tspan></text>'
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12" fill="#333">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        *marks,
        line(steps, "#93b4e8", 1),
        line(_running_mean(steps), "#1d4ed8", 2),
        line(held, "#c2410c", 1.5),
        *dots,
        ends,
        legend,
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _mark(at: str, said: str) -> str:
    y = at.split(",")[1]
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="#e5e7eb"/>'
        f'<text x="{LEFT - 8}" y="{float(y) + 4:.1f}" text-anchor="end">{said}</text>'
    )


def _running_mean(points: Sequence[tuple[float, float]], keeps: float = 0.9) -> list[tuple[float, float]]:
    made: list[tuple[float, float]] = []
    mean = points[0][1] if points else 0.0
    for x, y in points:
        mean = keeps * mean + (1 - keeps) * y
        made.append((x, mean))
    return made
