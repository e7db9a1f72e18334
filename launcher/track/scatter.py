"""Dots over the values of one setting, as SVG. Knows no run."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 12, 40
DECADES = 1.5
"""Values that span more powers of ten than this stand on a logarithmic axis."""
LETTER = 6
"""Width of a letter under the axis: where names would overlap, the second is left out."""
MOST_NAMES = 16
"""Values of which every one is written under the axis."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """One measurement."""

    across: str
    """Value of the setting, as it was typed."""
    up: float
    """What was measured."""
    label: str
    """What it says when pointed at."""


def scatter(dots: Sequence[Dot], across: str) -> str:
    """An SVG element; empty where there is nothing to draw. Values that are no numbers stand side by side."""
    if not dots:
        return ""
    places = _places([dot.across for dot in dots])
    low, high = min(dot.up for dot in dots), max(dot.up for dot in dots)
    pad = (high - low) * 0.05 or abs(low) * 0.05 or 0.5
    low, high = low - pad, high + pad
    floor = HEIGHT - BOTTOM
    parts = [f'<line x1="{LEFT}" y1="{floor}" x2="{WIDTH - RIGHT}" y2="{floor}" stroke="#888"/>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = floor - share * (floor - TOP)
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{low + share * (high - low):.4g}</text>')
    names = sorted(places, key=lambda name: places[name])
    shown = names if len(names) <= MOST_NAMES else [names[0], names[len(names) // 2], names[-1]]
    free = 0.0
    for name in shown:
        x, half = _across(places[name]), len(name) * LETTER / 2
        if x - half < free:
            continue
        free = x + half
        parts.append(f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{html.escape(name)}</text>')
    for dot in dots:
        x, y = _across(places[dot.across]), floor - (dot.up - low) / (high - low) * (floor - TOP)
        title = f"<title>{html.escape(dot.label)}</title>"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#4c78a8" fill-opacity=".6">{title}</circle>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{html.escape(across)}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">{"".join(parts)}</svg>'


def _across(share: float) -> float:
    inner = LEFT + 20
    return inner + share * (WIDTH - RIGHT - 20 - inner)


def _places(values: Sequence[str]) -> dict[str, float]:
    """Where each value stands, from 0 to 1."""
    names = list(dict.fromkeys(values))
    try:
        numbers = [float(name) for name in names]
    except ValueError:
        numbers = list(map(float, range(len(names))))
    if not all(map(math.isfinite, numbers)):
        numbers = list(map(float, range(len(names))))
    if min(numbers) > 0 and math.log10(max(numbers) / min(numbers)) > DECADES:
        numbers = [math.log10(number) for number in numbers]
    low, size = min(numbers), max(numbers) - min(numbers)
    return {name: (number - low) / size if size else 0.5 for name, number in zip(names, numbers, strict=True)}
