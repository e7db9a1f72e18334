"""This machine as a cluster of one node: a detached process of its own starts, watches and outlives nothing else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from launcher.cluster.protocol import Job, QueueState
from launcher.errors import ClusterError, Problem
from launcher.runplan import RunPlan


class LocalExecutor:
    """Runs jobs on this machine, at once."""

    def submit(self, plan: RunPlan, folder: Path) -> str:
        """Start the job in a session of its own; the id is PID.START, which no later process shares."""
        code = Path(plan.run_dir) / "code"
        environment = {**os.environ, **plan.config.cluster.environment}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH", "")]))
        with (folder / "local.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "launcher.node.local_job", plan.run_dir],
                cwd=code,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return f"{process.pid}.{_start_ticks(process.pid)}"

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
        pid, _, start = job.job_id.partition(".")
        return QueueState.running if _start_ticks(int(pid)) == start else QueueState.gone

    def stop(self, job: Job) -> None:
        """SIGTERM to the job, which passes it to its ranks."""
        if self.state(job) is QueueState.running:
            os.kill(int(job.job_id.partition(".")[0]), signal.SIGTERM)


def _start_ticks(pid: int) -> str:
    """Field 22 of /proc/PID/stat; empty when there is no such process, or a zombie of it."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]
