"""This machine as a cluster of one node: a detached process of its own starts, watches and outlives nothing else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.cluster.protocol import Job, QueueState, StageJob
from launcher.errors import ClusterError, Problem
from launcher.process_id import process_id
from launcher.rundir import StageDir
from launcher.runplan import RunPlan


class LocalExecutor:
    """Runs jobs on this machine, at once."""

    def submit(self, plan: RunPlan, folder: Path, *, after: str | None = None) -> str:
        """Start the job in a session of its own; the id is PID.START, which no later process shares."""
        assert after is None, "jobs on this machine tokenise for themselves"
        command = ["-m", "launcher.node.local_job", plan.run_dir]
        variables = {"LAUNCHER_SUBMISSION": str(int(folder.name))}
        return _start(plan, command, Path(plan.run_dir) / "code", folder / "local.log", variables)

    def submit_data_job(self, plan: RunPlan, folder: Path) -> str:
        """There is none on this machine: plans for it have no such job."""
        raise AssertionError("jobs on this machine tokenise for themselves")

    def submit_stage(
        self, plan: RunPlan, stage: StageJob, *, after: str | None = None, needs_success: bool = False
    ) -> str:
        """Start it at once; it waits by itself for the process of the job `after`, and sees how that ended."""
        log = StageDir(stage.folder).submission / "local.log"
        log.parent.mkdir(mode=0o700, exist_ok=True)
        command = ["-m", stage.entry, str(stage.folder), *([] if after is None else [after])]
        return _start(plan, command, stage.code, log, {})

    def state(self, job: Job) -> QueueState:
        """Running, or gone; only the machine that started the job can tell."""
        if job.host != socket.gethostname():
            raise ClusterError(
                Problem(
                    where=f"job {job.job_id}",
                    message=f"it was started on {job.host}; this is {socket.gethostname()}",
                    remedy=f"ask on {job.host}",
                )
            )
        pid = int(job.job_id.partition(".")[0])
        return QueueState.running if process_id(pid) == job.job_id else QueueState.gone

    def stop(self, job: Job) -> None:
        """SIGTERM to the job, which passes it to its ranks."""
        if self.state(job) is QueueState.running:
            os.kill(int(job.job_id.partition(".")[0]), signal.SIGTERM)

    def withdraw(self, job: Job) -> None:
        """The same."""
        self.stop(job)


def _start(plan: RunPlan, arguments: Sequence[str], code: Path, log: Path, variables: Mapping[str, str]) -> str:
    """Start Python in a session of its own, on the code that lies in `code`; the process's id."""
    environment = {**os.environ, **plan.config.cluster.variables, **variables}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH", "")]))
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=code,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return process_id(process.pid) or f"{process.pid}.ended"
