"""The sweeps there are, their members, and which of them is best. Reads files only.

Knows no queue, and nothing of how a sweep came about.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.checkpoint.retain import HeldOut
from launcher.config.sampling import SamplingConfig
from launcher.decode import decode
from launcher.errors import NotFoundError, Problem, UserError, closest_first
from launcher.measures import ALL
from launcher.rundir import RunDir, SweepDir, sweep_dir
from launcher.runs.find import LAST
from launcher.runs.records import is_step, tail


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One of a sweep's runs."""

    run_id: str
    """Its name."""
    overrides: list[str]
    """What it differs in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How members were drawn, and what it takes to draw more."""

    how: SamplingConfig
    """What the sampler was told last."""
    work_dir: str
    """Where relative paths start."""
    config_dir: str | None
    """`--config-dir`."""
    drawn: list[int]
    """How many members were drawn each time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRecord:
    """sweep.json."""

    sweep_id: str
    """Name of the sweep."""
    time: float
    """When it was submitted, Unix time."""
    typed: list[str]
    """Recipe and overrides, as they were typed."""
    at_once: int | None
    """How many may run at the same time."""
    members: list[Member]
    """In order."""
    sampling: Sampling | None = None
    """None where every combination is a member."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Best:
    """The best that a run has come to."""

    value: float
    """Of the metric."""
    step: int
    """After which it was measured."""


def find_sweep(name: str, runs_root: Path) -> SweepDir:
    """The sweep that `name` means: an id, the beginning of one, or `last`; NotFoundError with the nearest."""
    found = sorted(
        sweep_dir(runs_root, "").root.glob("*/sweep.json"), key=lambda path: (path.stat().st_mtime_ns, path.parent.name)
    )
    names = [path.parent.name for path in found]
    if name == LAST and names:
        return sweep_dir(runs_root, names[-1])
    matching = [other for other in names if other.startswith(name)]
    if name in names or len(matching) == 1:
        return sweep_dir(runs_root, name if name in names else matching[0])
    where = f"sweep {name!r}"
    if matching:
        message = f"{len(matching)} sweeps begin with that"
        raise UserError(Problem(where=where, message=message, valid=", ".join(matching), remedy="type more of it"))
    raise NotFoundError(
        Problem(
            where=where,
            message=f"there is no such sweep in {runs_root}",
            valid=", ".join(closest_first(name, reversed(names))) or "(there are no sweeps)",
            remedy="`launcher submit RECIPE -m …` makes one; --runs-root DIR looks elsewhere",
        )
    )


def read_sweep(folder: SweepDir) -> SweepRecord:
    """What was asked for; UserError where the file is damaged."""
    try:
        # Sweeps of earlier versions are all of them whole grids.
        return decode(SweepRecord, {"sampling": None, **json.loads(folder.members.read_text(encoding="utf-8"))})
    except (ValueError, AssertionError) as error:
        raise UserError(Problem(where=str(folder.members), message=f"the file is damaged ({error})")) from error


def best_of(run: RunDir, metric: str) -> Best | None:
    """The best value of a held-out measure, or the last of a step's; None where the run has none yet."""
    if not metric.startswith(ALL):
        steps = [record for record in tail(run.metrics) if is_step(record) and _is_number(record.get(metric))]
        return Best(value=float(steps[-1][metric]), step=int(steps[-1]["step"])) if steps else None
    costs = HeldOut(run.metrics, metric).read()
    if not costs:
        return None
    step = min(costs, key=lambda at: (costs[at], at))
    return Best(value=HeldOut.cost(metric, costs[step]), step=step)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def best_first(found: Sequence[Best | None], metric: str) -> list[int]:
    """Places in `found`, the best first, those without a value at the end."""
    costs = [None if best is None else HeldOut.cost(metric, best.value) for best in found]
    return sorted(range(len(found)), key=lambda place: (costs[place] is None, costs[place] or 0.0, place))


def metrics_of(runs: Sequence[RunDir]) -> list[str]:
    """Names of what the first run that has any has measured."""
    for run in runs:
        names = {name for record in tail(run.metrics) for name, value in record.items() if _is_number(value)}
        if names:
            return sorted(names - {"step", "attempt"})
    return []
