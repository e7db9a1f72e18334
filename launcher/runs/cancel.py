"""Stopping a run on its user's word, with a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from launcher.cluster import executor
from launcher.cluster.protocol import Executor, QueueState
from launcher.errors import ClusterError, Problem, UserError
from launcher.rundir import RunDir
from launcher.runs.events import Event, record
from launcher.runs.job import cancel_requested, read_job, write_cancel_request
from launcher.runs.stages import under_way, withdraw
from launcher.runs.status import ACTIVE, status

WHY = "withdrawn with `launcher cancel`"
"""What a stage says that was to follow."""


def cancel_all(runs: Sequence[RunDir]) -> int:
    """Ask every one of `runs` that has not ended to stop; how many those are."""
    asked = 0
    # The last first: what still waits is withdrawn before a place becomes free for it.
    for run in reversed(runs):
        if status(run).state in ACTIVE:
            cancel(run)
            asked += 1
    return asked


def cancel(run: RunDir, cluster: Executor | None = None) -> str:
    """Ask the run to stop; says what will happen. UserError if it has ended, ClusterError if nobody could be told."""
    job = read_job(run)
    cluster = cluster or executor("local" if job is None else job.kind)
    now = status(run, cluster.state)
    name = run.root.name
    if job is not None and now.state not in ACTIVE and under_way(now.stages):
        withdrawn = withdraw(run, job, now.stages, cluster, WHY)
        return f"{_listed(withdrawn)} withdrawn; the training has ended already"
    if job is None or now.state not in ACTIVE:
        raise UserError(
            Problem(
                where=f"run {name}",
                message=f"it is {now.state.value} already ({now.reason}), so there is nothing to stop",
            )
        )
    queue = cluster.state(job)
    again = cancel_requested(run, job)
    # First the request, then the signal: whoever sees the job end must be able to see why.
    write_cancel_request(run, job)
    try:
        cluster.stop(job)
    except ClusterError:
        if not again:
            run.cancel_request.unlink()
        raise
    if not again:
        record(run, Event.cancel_requested, 0)
    withdrawn = withdraw(run, job, now.stages, cluster, WHY)
    rest = f"; {_listed(withdrawn)} withdrawn" if withdrawn else ""
    if queue is QueueState.running:
        return f"job {job.job_id} was told to stop; it writes a checkpoint first (`launcher status {name}`){rest}"
    return f"job {job.job_id} was withdrawn from the queue{rest}"


def _listed(names: list[str]) -> str:
    return f"{' and '.join(names)} {'was' if len(names) == 1 else 'were'}"
