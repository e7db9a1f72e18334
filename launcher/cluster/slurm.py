"""Slurm: submission through submitit, the queue's word through squeue, signals through scancel."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.cluster.protocol import Array, Job, QueueState, StageJob
from launcher.errors import ClusterError, Problem
from launcher.rundir import CheckDir, StageDir
from launcher.runplan import RunPlan

if TYPE_CHECKING:
    import submitit

QUERY_TIMEOUT_S = 20
DATA_JOB = "data"
"""Folder of a data job within that of its submission."""
RUNNING = {"RUNNING", "COMPLETING", "CONFIGURING", "STAGE_OUT", "SIGNALING", "SUSPENDED", "STOPPED"}
PENDING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}


def script(plan: RunPlan, folder: Path) -> str:
    """The batch script that `submit` sends."""
    assert plan.slurm is not None
    return text(_all(plan.slurm, folder), folder)


def text(parameters: Mapping[str, Any], folder: Path) -> str:
    """The batch script that sends a job of those parameters, its files in `folder`."""
    # submitit's executor makes the same text, but insists on srun: a plan can be read on a laptop.
    from submitit.slurm.slurm import _make_sbatch_string

    more = dict(parameters)
    command = f"{more.pop('python')} {shlex.join(['-u', '-m', 'submitit.core._submit', str(folder)])}"
    made: str = _make_sbatch_string(command=command, folder=folder, **{"wckey": None, **more})
    return made


def _all(parameters: Mapping[str, Any], folder: Path, after: str | None = None) -> dict[str, object]:
    setup = [f"export LAUNCHER_SUBMISSION={int(folder.name)}", *parameters["setup"]]
    more = dict(parameters["additional_parameters"])
    if after is not None:
        more |= _only_after(after)
    return {**parameters, "setup": setup, "additional_parameters": more}


def _only_after(job: str) -> dict[str, str]:
    # Without the second, a job whose condition can no longer be met would wait for ever.
    return {"dependency": f"afterok:{job}", "kill_on_invalid_dep": "yes"}


class SlurmExecutor:
    """The cluster that SLURM_CONF, or the system, names."""

    def submit(self, plan: RunPlan, folder: Path, *, after: str | None = None) -> str:
        """Queue the run through submitit; ClusterError with Slurm's own words when it is refused."""
        from launcher.node.entry import main

        assert plan.slurm is not None
        return _sbatch(_all(plan.slurm, folder, after), folder, main, plan.run_dir)

    def most_tasks(self) -> int | None:
        """Numbers of tasks stay below MaxArraySize, and start at 0."""
        found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _run("scontrol", "show", "config").stdout, re.MULTILINE)
        return int(found.group(1)) if found else None

    def submit_array(self, array: Array, folder: Path) -> list[str]:
        """Queue it through submitit's `map_array`, as `submit` does."""
        from launcher.node.entry import main

        more = dict(array.parameters["additional_parameters"])
        if array.after:
            more |= {"dependency": ",".join(array.after), "kill_on_invalid_dep": "yes"}
        at_once = array.at_once or len(array.run_dirs)
        parameters = {
            **array.parameters,
            "additional_parameters": {**more, "array": f"0-{len(array.run_dirs) - 1}%{at_once}"},
        }
        with _submitting(parameters, folder) as executor:
            if len(array.run_dirs) > 1:
                return [str(job.job_id) for job in executor.map_array(main, array.run_dirs)]
            # submitit makes no array of one, and its task looks for its pickle under an array's name.
            job_id = str(executor.submit(main, array.run_dirs[0]).job_id)
            (folder / f"{job_id}_submitted.pkl").rename(folder / f"{job_id}_0_submitted.pkl")
            return [f"{job_id}_0"]

    def submit_data_job(self, plan: RunPlan, folder: Path, also: Sequence[str] = ()) -> str:
        """Queue the job that tokenises, as `submit` does."""
        from launcher.node.data_job import main

        assert plan.data_job is not None
        return _sbatch(_all(plan.data_job, folder), folder / DATA_JOB, main, plan.run_dir, *also)

    def submit_stage(
        self, plan: RunPlan, stage: StageJob, *, after: str | None = None, needs_success: bool = False
    ) -> str:
        """Queue it as `submit` does. A job that is requeued has not ended: it keeps its id, and is waited for."""
        more = dict(stage.parameters["additional_parameters"])
        if after is not None:
            more |= _only_after(after) if needs_success else {"dependency": f"afterany:{after}"}
        asked = {**stage.parameters, "additional_parameters": more}
        main = importlib.import_module(stage.entry).main
        return _sbatch(asked, StageDir(stage.folder).submission, main, str(stage.folder))

    def state(self, job: Job) -> QueueState:
        """What squeue says; a job it does not know is gone."""
        result = _run("squeue", "--noheader", "--format=%T", f"--jobs={job.job_id}")
        if result.returncode != 0:
            if "Invalid job id" in result.stderr:
                return QueueState.gone
            raise _refused("squeue", result.stderr)
        return _state(set(result.stdout.split()))

    def states(self, jobs: Sequence[Job]) -> dict[str, QueueState]:
        """The same of many; what squeue does not tell of is gone."""
        numbers = sorted({job.job_id.partition("_")[0] for job in jobs})
        if not numbers:
            return {}
        result = _run("squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={','.join(numbers)}")
        if result.returncode != 0 and "Invalid job id" not in result.stderr:
            raise _refused("squeue", result.stderr)
        lines = [line.split() for line in result.stdout.splitlines()]
        told = {job_id: _state({word}) for job_id, word in (line for line in lines if len(line) == 2)}
        return {job.job_id: told.get(job.job_id, QueueState.gone) for job in jobs}

    def stop(self, job: Job) -> None:
        """SIGTERM to the ranks of a running job (the batch script goes on to its epilogue); scancel otherwise."""
        running = self.state(job) is QueueState.running
        shared = job.data_job_id is None or job.array is not None
        waiting = [job.job_id] if shared else [job.job_id, str(job.data_job_id)]
        arguments = ["--signal=TERM", job.job_id] if running else waiting
        result = _run("scancel", *arguments)
        if result.returncode != 0:
            raise _refused("scancel", result.stderr)

    def withdraw(self, job: Job) -> None:
        """scancel, which signals and then kills a job that runs."""
        if self.state(job) is not QueueState.gone:
            result = _run("scancel", job.job_id)
            if result.returncode != 0:
                raise _refused("scancel", result.stderr)


def _state(words: set[str]) -> QueueState:
    if words & RUNNING:
        return QueueState.running
    return QueueState.pending if words & PENDING else QueueState.gone


def _sbatch(parameters: Mapping[str, object], folder: Path, entry: Callable[..., None], *arguments: str) -> str:
    """Have submitit send `entry(*arguments)` to Slurm, its files in `folder`; the job's id."""
    with _submitting(parameters, folder) as executor:
        return str(executor.submit(entry, *arguments).job_id)


@contextlib.contextmanager
def _submitting(parameters: Mapping[str, object], folder: Path) -> Iterator[submitit.SlurmExecutor]:
    """submitit's executor; ClusterError with Slurm's own words when it is refused."""
    _require("sbatch")
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    # submitit's own default for the key is refused on clusters that track them.
    more = {"wckey": None, **parameters}
    executor = submitit.SlurmExecutor(folder=folder, python=str(more.pop("python")))
    executor.update_parameters(**more)
    try:
        # submitit echoes what sbatch says; it is told once, by us.
        with contextlib.redirect_stderr(io.StringIO()):
            yield executor
    except (FailedJobError, FailedSubmissionError, subprocess.CalledProcessError, OSError) as error:
        raise _refused("sbatch", str(error)) from error


def submit_check_job(parameters: Mapping[str, Any], folder: CheckDir) -> str:
    """Queue the job that checks a cluster, as a run is queued; its id."""
    from launcher.node.check_job import main

    return _sbatch(parameters, folder.submission, main, str(folder.root))


def refusal(parameters: Mapping[str, Any], folder: Path) -> str | None:
    """Why Slurm would not take a job of those parameters; None if it would. Nothing is queued."""
    words = text(parameters, folder)
    result = subprocess.run(
        ["sbatch", "--test-only"], input=words, capture_output=True, text=True, check=False, timeout=QUERY_TIMEOUT_S
    )
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in result.stderr.splitlines()]
    return None if result.returncode == 0 else "; ".join(dict.fromkeys(lines)) or f"status {result.returncode}"


def answer(*command: str) -> str:
    """What a Slurm command prints; ClusterError if it fails."""
    result = _run(*command)
    if result.returncode != 0:
        raise _refused(command[0], result.stderr or result.stdout)
    return result.stdout


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
