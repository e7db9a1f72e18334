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
from launcher.config.schema import Action
from launcher.faultpoints import Point, reach
from launcher.node.supervisor import Start, close
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event, record
from launcher.runs.outcome import Outcome, read_outcomes
from launcher.runs.retry import bad_nodes

LEAVE_S = 120.0
"""How long to wait for Slurm to end a job that it has requeued."""


def main(run_dir: str, status: str) -> None:
    """Entry of the batch script."""
    # Whoever preempts or requeues signals the batch script too; the outcome matters more than a quick end.
    # Blocked, so that it waits, and the commands that requeue the job are spared too.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    run = RunDir(Path(run_dir))
    start = Start.read(run.attempt(int(os.environ["LAUNCHER_ATTEMPT"])))
    assert start is not None, "the prologue wrote it"
    reach(Point.epilogue)
    outcome = close(run, start, int(status))
    print(f"attempt {outcome.attempt} {outcome.state.value}: {outcome.reason}; {outcome.action.value}", flush=True)
    requeue_if_due(run, start, outcome)


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
