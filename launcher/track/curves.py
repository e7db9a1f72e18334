"""A run's curves, read from its files in one pass and in constant memory."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.rundir import RunDir
from launcher.track.thin import Point, Thin

_NOT_DRAWN = ("step", "attempt", "samples", "tokens", "slices")
_MOST_SAMPLE_STEPS = 6
"""Steps whose answers are shown: the first, the last, and some between."""


@dataclass(kw_only=True, slots=True)
class Curves:
    """What metrics.jsonl and samples.jsonl hold, thinned out."""

    lines: dict[str, list[Point]] = field(default_factory=dict)
    """Points by the name of the metric."""
    slices: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Losses told apart at the first and at the last evaluation, by step."""
    answers: dict[str, dict[int, str]] = field(default_factory=dict)
    """Prompt: the answer at some steps."""
    steps: int = 0
    """Optimiser steps done."""
    tokens: int = 0
    """Trained tokens so far."""


def read_curves(run: RunDir) -> Curves:
    """Everything, of a run that may still be going on."""
    found, thin = Curves(), dict[str, Thin]()
    for record in _records(run.metrics):
        step = record.get("step")
        if not isinstance(step, int):
            continue
        if isinstance(record.get("slices"), dict):
            _keep_slices(found, step, record["slices"])
            continue
        if "loss" in record:
            found.steps, found.tokens = step, record.get("tokens", 0)
        for name, value in record.items():
            if name not in _NOT_DRAWN and isinstance(value, int | float) and math.isfinite(value):
                thin.setdefault(name, Thin()).add(step, float(value))
    found.lines = {name: line.points() for name, line in thin.items()}
    found.answers = _answers(run.samples)
    return found


def _keep_slices(found: Curves, step: int, slices: dict[str, Any]) -> None:
    first = min((*found.slices, step))
    found.slices = {at: kept for at, kept in found.slices.items() if at == first}
    found.slices[step] = slices


def _answers(path: Path) -> dict[str, dict[int, str]]:
    """The answers at the steps that are shown; of those given twice, the later."""
    steps = sorted({record["step"] for record in _records(path) if isinstance(record.get("step"), int)})
    if len(steps) > _MOST_SAMPLE_STEPS:
        last = len(steps) - 1
        steps = [steps[round(place * last / (_MOST_SAMPLE_STEPS - 1))] for place in range(_MOST_SAMPLE_STEPS)]
    shown, found = set(steps), dict[str, dict[int, str]]()
    for record in _records(path):
        if record.get("step") in shown:
            found.setdefault(str(record.get("prompt")), {})[record["step"]] = str(record.get("answer"))
    return found


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    """Every line that is a JSON object, one at a time."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """Where a held-out loss has begun to rise while the training loss went on falling."""

    name: str
    """The held-out loss."""
    step: int
    """Where it was lowest."""
    best: float
    """What it was there."""
    rise: float
    """How much higher it is at its last evaluation."""
    fall: float
    """How much lower the training loss is there than it was at `step`."""


def turns(curves: Curves) -> list[Turn]:
    """Every held-out loss that has turned: the sign of overfitting."""
    found = []
    train = curves.lines.get("loss", [])
    for name, line in curves.lines.items():
        if not (name.startswith("eval_") and name.endswith("_loss")) or len(line) < 2:
            continue
        step, best = min(line, key=lambda point: (point[1], point[0]))
        last_step, last = line[-1]
        fall = _around(train, step) - _around(train, last_step)
        if last > best and fall > 0:
            found.append(Turn(name=name, step=step, best=best, rise=last - best, fall=fall))
    return found


_AROUND = 20


def _around(line: list[Point], step: int) -> float:
    """The mean of the last points up to a step, of the first where none is before it; not a number of no points."""
    before = [value for at, value in line if at <= step][-_AROUND:] or [value for _, value in line[:1]]
    return sum(before) / len(before) if before else math.nan
