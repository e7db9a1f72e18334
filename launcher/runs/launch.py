"""Freeze and submit: a plan becomes a queued job, or leaves nothing behind."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from launcher.cluster import executor
from launcher.cluster.protocol import Job
from launcher.plan.prepared import prepared
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event, record
from launcher.runs.freeze import freeze
from launcher.runs.job import claimed_submission, write_job


@dataclass(frozen=True, kw_only=True, slots=True)
class Launched:
    """A submitted run."""

    run: RunDir
    """Its directory."""
    job_id: str
    """The job that carries it."""
    data_job_id: str | None
    """The job that tokenises for it first, if that was needed."""


def launch(plan: RunPlan, typed: Sequence[str]) -> Launched:
    """Freeze `plan` and queue it; ClusterError, and no run directory, if the cluster refuses."""
    run = freeze(plan, typed)
    try:
        with claimed_submission(run, 1) as folder:
            return submit(run, plan, folder)
    except BaseException:
        shutil.rmtree(run.root, ignore_errors=True)
        raise
    raise AssertionError("the block returns or raises")


def submit(run: RunDir, plan: RunPlan, folder: Path) -> Launched:
    """Queue a frozen run once more, as the submission of `folder`."""
    kind, number = plan.config.cluster.kind.value, int(folder.name)
    carrier = executor(kind)
    here = partial(Job, kind=kind, host=socket.gethostname(), submission=number)
    data_job = None if plan.data_job is None or prepared(plan) is not None else carrier.submit_data_job(plan, folder)
    try:
        job = here(job_id=carrier.submit(plan, folder, after=data_job), data_job_id=data_job)
    except BaseException:
        if data_job is not None:
            carrier.stop(here(job_id=data_job))
        raise
    try:
        write_job(run, job)
        record(run, Event.submitted, 0, job_id=job.job_id, kind=kind, submission=number, data_job_id=data_job)
    except BaseException:
        # A job that no run directory knows of could be neither seen nor stopped.
        carrier.stop(job)
        raise
    return Launched(run=run, job_id=job.job_id, data_job_id=data_job)
