"""A job on this machine: what Slurm does, for one node. Attempts, their ranks, and starting again.

`python -m launcher.node.local_job RUN_DIR` runs prologue, ranks and epilogue in a session of its own, and again after
a failure that calls for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from launcher.config.survival import Action
from launcher.faultpoints import Point, reach
from launcher.node.logs import redirect_output
from launcher.node.prologue import CANCELLED_STATUS, admit, begin_attempt, end_attempt, prologue
from launcher.node.ranks import local_variables, node_name
from launcher.node.supervisor import Start, close
from launcher.process_id import process_id
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.diagnosis import RankExit
from launcher.runs.events import Event, record
from launcher.runs.outcome import Ending, Outcome

POLL_S = 0.1
GRACE_S = 7.0
"""How long the other ranks may take to end by themselves once one of them failed; their stacks take five."""


class LocalJob:
    """The ranks of one attempt, and whether the job was told to stop."""

    def __init__(self) -> None:
        self.ranks: list[subprocess.Popen[bytes]] = []
        self.exits: list[RankExit] = []
        self.told = 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on to every rank; none is started once one has come."""
        self.told = number
        for rank in self.ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    def run(self, run: RunDir, variables: dict[str, str], ranks: int) -> int:
        """Start the ranks and wait; the first bad exit ends them all. Returns the worst status, as a shell would."""
        self.ranks, self.exits = [], []
        for local_rank in range(ranks):
            environment = {**os.environ, **variables, **local_variables(local_rank, ranks)}
            command = [sys.executable, "-u", "-m", "launcher.node.entry", str(run.root)]
            self.ranks.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL))
        while not self._all_gone():
            if self.exits:
                self._end_survivors()
            time.sleep(POLL_S)
        return max((end.status for end in self.exits), default=0)

    def _all_gone(self) -> bool:
        """Note every new bad exit, in the order in which they are seen."""
        known = {end.rank for end in self.exits}
        codes = [rank.poll() for rank in self.ranks]
        new = [(number, code) for number, code in enumerate(codes) if code and number not in known]
        # Of those that ended between two looks, one that was killed is the cause, and one that complains is not.
        for number, code in sorted(new, key=lambda pair: pair[1] > 0):
            status = 128 - code if code < 0 else code
            self.exits.append(RankExit(rank=number, node=node_name(), status=status))
        return None not in codes

    def _end_survivors(self) -> None:
        # A rank whose peer is gone waits in a collective and never reaches the step boundary where it would stop.
        # A moment first: peers often fail together, and each one's own word is worth more than its silence.
        deadline = time.monotonic() + GRACE_S
        while time.monotonic() < deadline and not self._all_gone():
            time.sleep(POLL_S)
        for rank in self.ranks:
            if rank.poll() is None:
                rank.kill()


def attempt(run: RunDir, job: LocalJob, job_id: str, restarts: int) -> Outcome:
    """One attempt, from prologue to outcome."""
    submission = int(os.environ["LAUNCHER_SUBMISSION"])
    admit(run, job_id, restarts, submission)
    start = begin_attempt(run, job_id, restarts, submission)
    redirect_output(run.attempt(start.attempt).launch_log)
    try:
        variables = prologue(run, start)
    except SystemExit:
        return _outcome(run, start)
    if job.told:
        return end_attempt(run, start, Ending.stopped, None, "cancelled before training began", CANCELLED_STATUS)
    exit_code = job.run(run, variables, RunPlan.load(run.plan).topology.ranks_per_node)
    reach(Point.epilogue)
    return close(run, start, exit_code, exits=job.exits)


def _outcome(run: RunDir, start: Start) -> Outcome:
    outcome = Outcome.read(run.attempt(start.attempt))
    assert outcome is not None, "a prologue that leaves closes its attempt"
    return outcome


def main(run_dir: str) -> None:
    """The whole job."""
    os.umask(0o077)
    run = RunDir(Path(run_dir))
    job = LocalJob()
    signal.signal(signal.SIGTERM, job.handle)
    job_id = process_id(os.getpid())
    assert job_id is not None
    restarts = 0
    while True:
        outcome = attempt(run, job, job_id, restarts)
        # Whoever ends this process wants no more of it, whatever the ranks took the signal for.
        if outcome.action is Action.stop or job.told:
            break
        restarts += 1
        record(run, Event.requeued, outcome.attempt, action=outcome.action.value, excluded=[], restarts=restarts)
        if outcome.action is Action.requeue_later:
            time.sleep(RunPlan.load(run.plan).config.retry.pause_s)
    sys.exit(outcome.exit_code)


if __name__ == "__main__":
    main(sys.argv[1])
