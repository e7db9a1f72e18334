"""Slurm: submission through submitit, the queue's word through squeue, signals through scancel."""

from __future__ import annotations

import contextlib
import io
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from launcher.cluster.protocol import Job, QueueState
from launcher.errors import ClusterError, Problem
from launcher.runplan import RunPlan

QUERY_TIMEOUT_S = 20
RUNNING = {"RUNNING", "COMPLETING", "CONFIGURING", "STAGE_OUT", "SIGNALING", "SUSPENDED", "STOPPED"}
PENDING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}


def script(plan: RunPlan, folder: Path) -> str:
    """The batch script that `submit` sends."""
    # submitit's executor makes the same text, but insists on srun: a plan can be read on a laptop.
    from submitit.slurm.slurm import _make_sbatch_string

    command = shlex.join([sys.executable, "-u", "-m", "submitit.core._submit", str(folder)])
    text: str = _make_sbatch_string(command=command, folder=folder, **_all(plan, folder))
    return text


def _all(plan: RunPlan, folder: Path) -> dict[str, object]:
    assert plan.slurm is not None
    setup = [f"export LAUNCHER_SUBMISSION={int(folder.name)}", *plan.slurm["setup"]]
    return {"wckey": None, **plan.slurm, "setup": setup}


class SlurmExecutor:
    """The cluster that SLURM_CONF, or the system, names."""

    def submit(self, plan: RunPlan, folder: Path) -> str:
        """Queue the run through submitit; ClusterError with Slurm's own words when it is refused."""
        _require("sbatch")
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        from launcher.node.entry import main

        executor = submitit.SlurmExecutor(folder=folder)
        executor.update_parameters(**_all(plan, folder))
        try:
            # submitit echoes what sbatch says; it is told once, by us.
            with contextlib.redirect_stderr(io.StringIO()):
                return str(executor.submit(main, plan.run_dir).job_id)
        except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError, OSError) as error:
            raise _refused("sbatch", str(error)) from error

    def state(self, job: Job) -> QueueState:
        """What squeue says; a job it does not know is gone."""
        result = _run("squeue", "--noheader", "--format=%T", f"--jobs={job.job_id}")
        if result.returncode != 0:
            if "Invalid job id" in result.stderr:
                return QueueState.gone
            raise _refused("squeue", result.stderr)
        words = set(result.stdout.split())
        if words & RUNNING:
            return QueueState.running
        return QueueState.pending if words & PENDING else QueueState.gone

    def stop(self, job: Job) -> None:
        """SIGTERM to the ranks of a running job (the batch script goes on to its epilogue); scancel otherwise."""
        running = self.state(job) is QueueState.running
        arguments = ("--signal=TERM", job.job_id) if running else (job.job_id,)
        result = _run("scancel", *arguments)
        if result.returncode != 0:
            raise _refused("scancel", result.stderr)


def _require(command: str) -> None:
    if shutil.which(command) is None:
        raise ClusterError(
            Problem(
                where="Slurm",
                message=f"there is no {command} on this machine",
                remedy="run this on a login node of the cluster, or write cluster=local",
            )
        )


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    _require(command[0])
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=QUERY_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise _refused(command[0], f"no answer within {QUERY_TIMEOUT_S} s") from error


def _refused(command: str, words: str) -> ClusterError:
    said = [line.strip() for line in words.splitlines() if "error" in line.lower()] or words.strip().splitlines()[-1:]
    detail = "; ".join(dict.fromkeys(line.removeprefix(f"{command}: ").removeprefix("error: ") for line in said))
    unreachable = "contact slurm" in words.lower() or "no answer" in words or "connect" in words.lower()
    return ClusterError(
        Problem(
            where="Slurm",
            message=f"{command} {'cannot reach the controller' if unreachable else 'refused'}: {detail}",
            remedy="check with `sinfo`; nothing was queued" if command == "sbatch" else "check with `sinfo`",
        )
    )
