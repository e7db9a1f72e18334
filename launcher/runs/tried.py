"""What a sweep's members have come to so far, as a sampler learns from it. Reads files, and asks the queue."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.checkpoint.retain import HeldOut
from launcher.cluster.protocol import Job
from launcher.errors import NotFoundError, Problem
from launcher.failures import FailureClass
from launcher.measures import ALL
from launcher.plan.draw import Tried
from launcher.rundir import RunDir
from launcher.runs.job import read_job
from launcher.runs.members import Member, best_of, metrics_of
from launcher.runs.status import ACTIVE, AskQueue, State, status


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """All members of a sweep."""

    tried: list[Tried]
    """In order."""
    jobs: list[Job]
    """Those that carry members that have not ended."""

    @property
    def measured(self) -> int:
        """Members that something can be learnt from."""
        return sum(one.cost is not None for one in self.tried)

    @property
    def active(self) -> int:
        """Members that are queued or running."""
        return sum(one.active for one in self.tried)

    def __str__(self) -> str:
        others = len(self.tried) - self.measured - self.active
        return f"{self.measured:,} measured, {self.active:,} under way, {others:,} that tell nothing"


def history(members: Sequence[Member], runs_root: Path, metric: str, ask: AskQueue) -> History:
    """What the members came to by `metric`; NotFoundError if that is no measure of theirs.

    One that was cancelled counts with what it has measured; one whose loss was no number, or has run away, as much as
    the worst of all; one that failed otherwise or was removed tells nothing.
    """
    runs = {member.run_id: RunDir(runs_root / member.run_id) for member in members}
    there = [run for run in runs.values() if run.plan.is_file()]
    costs: dict[str, float] = {}
    active: list[RunDir] = []
    for run in there:
        now = status(run, ask)
        if now.state in ACTIVE:
            active.append(run)
        elif now.state is State.FAILED:
            if now.failure is FailureClass.not_a_number:
                costs[run.root.name] = math.inf
        elif (best := best_of(run, metric)) is not None:
            costs[run.root.name] = HeldOut.cost(metric, best.value)
    _require(metric, costs, there)
    worst = max(filter(math.isfinite, costs.values()), default=None)
    costs = {name: cost if math.isfinite(cost) else worst for name, cost in costs.items() if worst is not None}
    names = {run.root.name for run in active}
    tried = [Tried(overrides=one.overrides, cost=costs.get(one.run_id), active=one.run_id in names) for one in members]
    return History(tried=tried, jobs=[job for job in map(read_job, active) if job is not None])


def _require(metric: str, costs: dict[str, float], runs: Sequence[RunDir]) -> None:
    # Names of held-out measures are checked against the config; those may come much later than the first step.
    known = [] if any(map(math.isfinite, costs.values())) or metric.startswith(ALL) else metrics_of(runs)
    if known and metric not in known:
        message = f"no member has measured {metric!r}"
        raise NotFoundError(Problem(where="--best", message=message, valid=", ".join(known)))
