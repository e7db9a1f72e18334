"""Line plots as SVG, written by hand: a page with them needs nothing else. Knows no run."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.track.thin import Point

COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#9d755d", "#eeca3b")
WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 70, 14, 12, 34


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One curve."""

    label: str
    """In the legend."""
    points: Sequence[Point]
    """By step."""
    colour: int = 0
    """Place among `COLOURS`."""
    dashed: bool = False
    """Whether it is broken, to tell it from another of its colour."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """A vertical line."""

    step: int
    """Where."""
    label: str
    """What it says when pointed at."""


def plot(lines: Sequence[Line], marks: Sequence[Mark] = ()) -> str:
    """An SVG element with axes, and a legend below; empty where there is nothing to draw."""
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    steps = [step for line in lines for step, _ in line.points]
    values = [value for line in lines for _, value in line.points]
    across = _Scale(min(steps), max(steps), LEFT, WIDTH - RIGHT)
    up = _Scale(min(values), max(values), HEIGHT - BOTTOM, TOP)
    parts = [*_axes(across, up), *(_curve(line, across, up) for line in lines)]
    for mark in marks:
        x = across.at(mark.step)
        parts.append(
            f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="#c00" stroke-dasharray="3 3">'
            f"<title>{html.escape(mark.label)}</title></line>"
        )
    legend = "".join(
        f'<span><i style="border-top:3px {"dashed" if line.dashed else "solid"} {_colour(line)}"></i>'
        f"{html.escape(line.label)}</span>"
        for line in lines
    )
    body = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">{body}</svg><p class="legend">{legend}</p>'


class _Scale:
    """Values to pixels."""

    def __init__(self, low: float, high: float, first: float, last: float) -> None:
        if high <= low:
            # A flat curve lies in the middle.
            pad = abs(low) * 0.05 or 0.5
            low, high = low - pad, high + pad
        self.low, self.high = low, high
        self._first, self._size = first, last - first

    def at(self, value: float) -> float:
        return self._first + (value - self.low) / (self.high - self.low) * self._size

    def ticks(self, about: int) -> list[float]:
        """Round values within."""
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        unit = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
        first = math.ceil(self.low / unit)
        return [unit * number for number in range(first, math.floor(self.high / unit) + 1)]


def _axes(across: _Scale, up: _Scale) -> list[str]:
    floor = HEIGHT - BOTTOM
    parts = []
    for value in up.ticks(5):
        y = up.at(value)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e5e5e5"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for value in across.ticks(7):
        if value == int(value):
            parts.append(
                f'<text x="{across.at(value):.1f}" y="{floor + 16}" text-anchor="middle">{int(value):,}</text>'
            )
    parts.append(f'<line x1="{LEFT}" y1="{floor}" x2="{WIDTH - RIGHT}" y2="{floor}" stroke="#888"/>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 3}" text-anchor="end">optimiser step</text>')
    return parts


def _curve(line: Line, across: _Scale, up: _Scale) -> str:
    places = [(across.at(step), up.at(value)) for step, value in line.points]
    if len(places) == 1:
        return f'<circle cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="3" fill="{_colour(line)}"/>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dashes = ' stroke-dasharray="6 3"' if line.dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{_colour(line)}" stroke-width="1.5"{dashes}/>'


def _colour(line: Line) -> str:
    return COLOURS[line.colour % len(COLOURS)]
