"""This machine as a cluster of one node: a detached process of its own starts, watches and outlives nothing else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.cluster.protocol import Array, Job, QueueState, StageJob
from launcher.errors import ClusterError, Problem
from launcher.process_id import process_id
from launcher.rundir import ArrayDir, StageDir
from launcher.runplan import RunPlan


class LocalExecutor:
    """Runs jobs on this machine, at once."""

    def submit(self, plan: RunPlan, folder: Path, *, after: str | None = None) -> str:
        """Start the job in a session of its own; the id is PID.START, which no later process shares."""
        assert after is None, "jobs on this machine tokenise for themselves"
        command = ["-m", "launcher.node.local_job", plan.run_dir]
        variables = {"LAUNCHER_SUBMISSION": str(int(folder.name))}
        return _start(plan.config.cluster.environment, command, Path(plan.run_dir) / "code", folder / LOG, variables)

    def most_tasks(self) -> int | None:
        """Any number."""
        return None

    def submit_array(self, array: Array, folder: Path) -> list[str]:
        """Start a process that runs one task after another, or a few at a time; ids are PROCESS_TASK."""
        # Jobs on this machine tokenise for themselves: what an array waits for here is an earlier one's process.
        after = [condition.removeprefix("afterany:") for condition in array.after]
        command = ["-m", "launcher.node.local_array", str(folder), str(array.at_once or 1), *after]
        code, variables = Path(array.run_dirs[0]) / "code", {"LAUNCHER_SUBMISSION": "1"}
        process = _start(array.environment, command, code, ArrayDir(folder).log, variables)
        return [f"{process}_{number}" for number in range(len(array.run_dirs))]

    def submit_data_job(self, plan: RunPlan, folder: Path, also: Sequence[str] = ()) -> str:
        """There is none on this machine: plans for it have no such job."""
        raise AssertionError("jobs on this machine tokenise for themselves")

    def submit_stage(
        self, plan: RunPlan, stage: StageJob, *, after: str | None = None, needs_success: bool = False
    ) -> str:
        """Start it at once; it waits by itself for the process of the job `after`, and sees how that ended."""
        log = StageDir(stage.folder).submission / LOG
        log.parent.mkdir(mode=0o700, exist_ok=True)
        command = ["-m", stage.entry, str(stage.folder), *([] if after is None else [after])]
        return _start(plan.config.cluster.variables, command, stage.code, log, {})

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
        if job.array is not None:
            return _task_state(job, ArrayDir(Path(job.array)))
        return QueueState.running if _lives(job.job_id) else QueueState.gone

    def states(self, jobs: Sequence[Job]) -> dict[str, QueueState]:
        """The same of those that were started here; what another machine started is left out."""
        return {job.job_id: self.state(job) for job in jobs if job.host == socket.gethostname()}

    def stop(self, job: Job) -> None:
        """SIGTERM to the job, which passes it to its ranks; a task that waits for its turn loses it."""
        state = self.state(job)
        if job.array is None:
            process = job.job_id
        elif state is QueueState.pending:
            ArrayDir(Path(job.array)).withdrawn(_task(job)).touch(mode=0o600)
            return
        else:
            process = _process(ArrayDir(Path(job.array)), _task(job)) or ""
        if state is QueueState.running:
            os.kill(int(process.partition(".")[0]), signal.SIGTERM)

    def withdraw(self, job: Job) -> None:
        """The same."""
        self.stop(job)


LOG = "local.log"


def _lives(process: str) -> bool:
    return process_id(int(process.partition(".")[0])) == process


def _task(job: Job) -> int:
    return int(job.job_id.rpartition("_")[2])


def _process(array: ArrayDir, task: int) -> str | None:
    """The process of a task; None before it has begun."""
    note = array.process(task)
    return note.read_text(encoding="utf-8") if note.is_file() else None


def _task_state(job: Job, array: ArrayDir) -> QueueState:
    # In this order: a task begins before the process that begins all of them ends.
    waits = _lives(job.job_id.rpartition("_")[0]) and not array.withdrawn(_task(job)).exists()
    process = _process(array, _task(job))
    if process is not None:
        return QueueState.running if _lives(process) else QueueState.gone
    return QueueState.pending if waits else QueueState.gone


def _start(
    cluster: Mapping[str, str], arguments: Sequence[str], code: Path, log: Path, variables: Mapping[str, str]
) -> str:
    """Start Python in a session of its own, on the code that lies in `code`; the process's id."""
    environment = {**os.environ, **cluster, **variables}
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
