"""Earlier runs that are like the one that is planned, by what their plans say. Reads the plans of a few runs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from launcher.config.schema import ZeroConfig
from launcher.plain import plain
from launcher.remember import remembered
from launcher.rundir import RunDir
from launcher.runs.records import tail

LOOKED_AT = 20
"""Runs, the newest first: what is planned now is mostly what ran last."""
STAMP = re.compile(r"-(\d{8}-\d{6}-[0-9a-f]{4})$")
"""How a run's name ends: when it was planned."""
LAYOUT = tuple(f"config.zero.{one.name}" for one in fields(ZeroConfig) if one.name != "auto")
"""Keys of how states are spread."""


def alike(root: Path, now: Mapping[str, Any], keys: Sequence[str]) -> Iterator[RunDir]:
    """Runs in `root`, the newest first, whose plans say the same at these keys as `now`, a plan's parts by name."""
    runs = newest(root)
    # What is wanted is not made plain for nobody: every member of a sweep asks.
    wanted = tuple(plain(_at(now, key)) for key in keys) if runs else ()
    return (run for run in runs if said(run, keys) == wanted)


def _at(now: Mapping[str, Any], key: str) -> Any:
    part, _, rest = key.partition(".")
    return attrgetter(rest)(now[part]) if rest else now[part]


@remembered
def said(run: RunDir, keys: Sequence[str]) -> tuple[Any, ...] | None:
    """What a run's plan says at these keys; None where it is damaged, or says too little."""
    plan = stored(run)
    return None if plan is None else values(plan, keys)


def values(plan: Mapping[str, Any], keys: Sequence[str]) -> tuple[Any, ...] | None:
    """What a plan says at dotted keys; None where it says too little: whoever asks for that run is told."""
    found = []
    for key in keys:
        value: Any = plan
        for name in key.split("."):
            if not isinstance(value, Mapping) or name not in value:
                return None
            value = value[name]
        found.append(value)
    return tuple(found)


@remembered
def newest(root: Path) -> list[RunDir]:
    """The runs that are looked at, the newest first."""
    try:
        names = [name for name in os.listdir(root) if STAMP.search(name)]
    except OSError:
        return []
    return [RunDir(root / name) for name in sorted(names, key=lambda name: name[-20:], reverse=True)[:LOOKED_AT]]


@remembered
def stored(run: RunDir) -> dict[str, Any] | None:
    """A run's plan, of whatever version; None of a damaged one."""
    try:
        plan = json.loads(run.plan.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return plan if isinstance(plan, dict) else None


@remembered
def measures(run: RunDir) -> list[dict[str, Any]]:
    """A run's last metrics."""
    return tail(run.metrics)
