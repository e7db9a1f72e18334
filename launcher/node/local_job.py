"""A job on this machine: what Slurm's batch script and srun do, for one node.

`python -m launcher.node.local_job RUN_DIR` runs prologue, ranks and epilogue in a session of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from launcher.node.epilogue import epilogue
from launcher.node.logs import redirect_output
from launcher.node.prologue import CANCELLED_STATUS, begin_attempt, end_attempt, prologue
from launcher.node.ranks import local_variables
from launcher.process_id import process_id
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.outcome import Ending

POLL_S = 0.1
GRACE_S = 2.0
"""How long the other ranks may take to end by themselves once one of them failed."""


class LocalJob:
    """The ranks of one attempt."""

    def __init__(self) -> None:
        self.ranks: list[subprocess.Popen[bytes]] = []
        self.told = 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal on to every rank; `main` starts none once one has come."""
        self.told = number
        for rank in self.ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    def run(self, run: RunDir, variables: dict[str, str], ranks: int) -> int:
        """Start the ranks and wait; the first bad exit ends them all. Returns the worst status, as a shell would."""
        for local_rank in range(ranks):
            environment = {**os.environ, **variables, **local_variables(local_rank, ranks)}
            command = [sys.executable, "-u", "-m", "launcher.node.entry", str(run.root)]
            self.ranks.append(subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL))
        return self._wait()

    def _wait(self) -> int:
        while any(rank.poll() is None for rank in self.ranks):
            if any(rank.poll() not in (None, 0) for rank in self.ranks):
                self._end_survivors()
            time.sleep(POLL_S)
        return max((128 - code if code < 0 else code for code in (rank.wait() for rank in self.ranks)), default=0)

    def _end_survivors(self) -> None:
        # A rank whose peer is gone waits in a collective and never reaches the step boundary where it would stop.
        # A moment first: peers often fail together, and each one's own word is worth more than its silence.
        time.sleep(GRACE_S)
        for rank in self.ranks:
            if rank.poll() is None:
                rank.kill()


def main(run_dir: str) -> None:
    """The whole job."""
    os.umask(0o077)
    run = RunDir(Path(run_dir))
    job = LocalJob()
    signal.signal(signal.SIGTERM, job.handle)
    job_id = process_id(os.getpid())
    assert job_id is not None
    attempt = begin_attempt(run, job_id, restarts=0)
    redirect_output(run.attempt(attempt).launch_log)
    variables = prologue(run, attempt, job_id)
    if job.told:
        end_attempt(run, attempt, job_id, Ending.stopped, "cancelled before training began", 0, None)
        sys.exit(CANCELLED_STATUS)
    exit_code = job.run(run, variables, RunPlan.load(run.plan).topology.ranks_per_node)
    epilogue(run, attempt, job_id, exit_code)
    sys.exit(exit_code)


if __name__ == "__main__":
    main(sys.argv[1])
