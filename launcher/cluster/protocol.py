"""The seam between a run and what carries it: Slurm, or this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from launcher.runplan import RunPlan


class QueueState(Enum):
    """Where a job stands in its queue."""

    pending = "pending"
    running = "running"
    gone = "gone"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A submitted job."""

    kind: str
    """`slurm` or `local`."""
    job_id: str
    """As the executor knows it."""
    host: str
    """Machine it was submitted from."""
    submission: int
    """Number of the submission within the run, from 1."""
    data_job_id: str | None = None
    """The job that tokenises for it, and that it waits for."""
    array: str | None = None
    """Folder of the array that it is a task of; None for a job of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Array:
    """Runs that are queued as one job."""

    run_dirs: list[str]
    """Their directories."""
    parameters: Mapping[str, Any]
    """submitit's; empty for this machine."""
    environment: Mapping[str, str]
    """The cluster profile's variables."""
    at_once: int | None
    """How many may run at the same time; None for as many as there is room for."""
    after: list[str]
    """Conditions that Slurm waits for, each as `--dependency` takes it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageJob:
    """A job that does not train: it follows one that does, or has a teacher answer."""

    entry: str
    """Module whose `main` takes the folder."""
    folder: Path
    """Where it works; the executor's own files go to `submit/` in it."""
    code: Path
    """Snapshot that it imports."""
    parameters: Mapping[str, Any]
    """submitit's; empty on this machine."""


class Executor(Protocol):
    """Carries runs."""

    def submit(self, plan: RunPlan, folder: Path, *, after: str | None = None) -> str:
        """Queue the run, keeping the executor's own files in `folder`; returns the job id at once.

        It starts once job `after` has ended well, and never if that fails. Raises ClusterError when the job was not
        taken; then nothing is queued.
        """
        ...

    def most_tasks(self) -> int | None:
        """How many tasks an array may have; None for any number."""
        ...

    def submit_array(self, array: Array, folder: Path) -> list[str]:
        """Queue one job with a task for each run, its files in `folder`; the tasks' ids, in order.

        `folder/tasks/N` is a link to the directory of run N.
        """
        ...

    def submit_data_job(self, plan: RunPlan, folder: Path, also: Sequence[str] = ()) -> str:
        """Queue the job that tokenises the run's data; its id. Only for plans that have one.

        `also` are the directories of other runs that wait for it; how it went is told there too.
        """
        ...

    def submit_stage(
        self, plan: RunPlan, stage: StageJob, *, after: str | None = None, needs_success: bool = False
    ) -> str:
        """Queue a job that does not train; its id. It starts once job `after` has ended, however that was.

        With `needs_success` it starts only if that ended well, and leaves the queue if not; jobs on one machine see
        to that themselves.
        """
        ...

    def state(self, job: Job) -> QueueState:
        """Where the job stands; ClusterError when it cannot be asked."""
        ...

    def states(self, jobs: Sequence[Job]) -> dict[str, QueueState]:
        """Where many jobs stand, by their ids, with one question; ClusterError when it cannot be asked."""
        ...

    def stop(self, job: Job) -> None:
        """Tell all ranks to stop with a checkpoint; a job that has not started is withdrawn, with its data job.

        A task of an array shares the data job with others, which stays.
        """
        ...

    def withdraw(self, job: Job) -> None:
        """End a job, or a whole array, at once, whatever it does; one that is gone is no error."""
        ...
