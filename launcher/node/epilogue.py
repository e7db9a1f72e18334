"""After the ranks: on the first node, closes the attempt and, where that is what follows, requeues the job. No torch.

`python -m launcher.node.epilogue RUN_DIR STATUS` runs once every rank is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from launcher import slurm_commands
from launcher.config.survival import Action
from launcher.failures import FailureClass
from launcher.faultpoints import Point, reach
from launcher.node.ranks import slurm_job_id
from launcher.node.supervisor import Start, close, conclude
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.diagnosis import Diagnosis
from launcher.runs.events import Event, record
from launcher.runs.outcome import Ending, Outcome, read_outcomes
from launcher.runs.retry import bad_nodes

LEAVE_S = 120.0
"""How long to wait for Slurm to end a job that it has requeued."""


def main(run_dir: str, status: str) -> None:
    """Entry of the batch script."""
    # Whoever preempts or requeues signals the batch script too; the outcome matters more than a quick end.
    # Blocked, so that it waits, and the commands that requeue the job are spared too.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    run = RunDir(Path(run_dir))
    start = _mine(run)
    reach(Point.epilogue)
    if start is None or (Outcome.read(run.attempt(start.attempt)) is not None and NUMBER not in os.environ):
        # The prologue never began an attempt, or has closed it, and what follows was its business.
        return
    outcome = close(run, start, int(status)) if NUMBER in os.environ else _dead_prologue(run, start, int(status))
    print(f"attempt {outcome.attempt} {outcome.state.value}: {outcome.reason}; {outcome.action.value}", flush=True)
    requeue_if_due(run, start, outcome)


NUMBER = "LAUNCHER_ATTEMPT"
"""Set once the prologue is through."""


def _mine(run: RunDir) -> Start | None:
    """The start of the attempt that this job is making."""
    if NUMBER in os.environ:
        return Start.read(run.attempt(int(os.environ[NUMBER])))
    here = slurm_job_id(), int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    starts = (Start.read(run.attempt(number)) for number in reversed(run.attempt_numbers()))
    return next((start for start in starts if start is not None and (start.job_id, start.restarts) == here), None)


def _dead_prologue(run: RunDir, start: Start, status: int) -> Outcome:
    how = f"was killed by signal {status - 128}" if status > 128 else f"ended with status {status}"
    diagnosis = Diagnosis(
        state=Ending.failed,
        failure=FailureClass.lost_process,
        reason=f"the preparation on {start.host} {how}",
        node=start.host,
    )
    return conclude(run, RunPlan.load(run.plan), start, diagnosis, status)


def requeue_if_due(run: RunDir, start: Start, outcome: Outcome) -> None:
    """Put the job back into the queue if that is what follows the outcome; then Slurm ends this process."""
    if outcome.action is Action.stop:
        return
    excluded = excluded_nodes(run)
    # First the event: the requeue kills this process.
    record(
        run, Event.requeued, start.attempt, action=outcome.action.value, excluded=excluded, restarts=start.restarts + 1
    )
    refused = slurm_commands.requeue(start.job_id, start.restarts, excluded)
    if refused is not None:
        record(run, Event.requeue_failed, start.attempt, reason=refused)
        print(f"the job could not be requeued: {refused}", file=sys.stderr, flush=True)
        return
    # A SIGTERM that came during the requeue ends the process here.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    time.sleep(LEAVE_S)


def excluded_nodes(run: RunDir) -> Sequence[str]:
    """Nodes that the job must not get again: the user's, and those that failed this run, as far as others remain."""
    plan = RunPlan.load(run.plan)
    cluster = plan.config.cluster
    bad = list(bad_nodes(read_outcomes(run)))
    if not bad:
        return []
    typed = [] if cluster.exclude is None else slurm_commands.expand_nodes(cluster.exclude)
    usable = slurm_commands.usable_nodes(cluster.partition) - set(typed)
    # The newest fault counts most: an old one may have been mended.
    while bad and len(usable - set(bad)) < cluster.nodes:
        bad.pop(0)
    return [*typed, *bad]


if __name__ == "__main__":
    main(*sys.argv[1:3])
