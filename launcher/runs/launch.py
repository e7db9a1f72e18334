"""Freeze and submit: a plan becomes a queued job, or leaves nothing behind."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from launcher.cluster import executor
from launcher.cluster.protocol import Job
from launcher.config.then import Stage
from launcher.plan import prepared
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs import chain
from launcher.runs.events import Event, record
from launcher.runs.freeze import freeze
from launcher.runs.job import claimed_submission, write_job
from launcher.runs.stages import Link, StageState, read_links
from launcher.runs.status import Status


@dataclass(frozen=True, kw_only=True, slots=True)
class Launched:
    """A submitted run."""

    run: RunDir
    """Its directory."""
    job_id: str
    """The job that carries it."""
    data_job_id: str | None
    """The job that tokenises for it first, if that was needed."""
    links: list[Link]
    """The jobs that follow it."""


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
    queued: list[Job] = []
    with chain.made_ready(run, plan, folder, plan.config.then.stages) as ready:
        try:
            data_job = None
            if plan.data_job is not None and prepared.folders(plan) is None:
                data_job = carrier.submit_data_job(plan, folder)
                queued.append(here(job_id=data_job))
            job = here(job_id=carrier.submit(plan, folder, after=data_job), data_job_id=data_job)
            queued.append(replace(job, data_job_id=None))
            links = chain.queue(run, plan, ready, carrier, job, queued)
            write_job(run, job)
            record(run, Event.submitted, 0, job_id=job.job_id, kind=kind, submission=number, data_job_id=data_job)
            chain.note(run, ready, links, job.job_id)
        except BaseException as error:
            # A job that no run directory knows of could be neither seen nor stopped.
            chain.take_back(carrier, queued, error)
            raise
    return Launched(run=run, job_id=job.job_id, data_job_id=data_job, links=links)


def stages_left(old: RunPlan, new: RunPlan, now: Status) -> list[Stage]:
    """Stages after training that have not been done; benchmarks otherwise asked for than before have not."""
    done = {stage.name for stage in now.stages if stage.state is StageState.COMPLETED}
    if replace(old.config.then, export=True) != replace(new.config.then, export=True):
        done.discard(Stage.eval.value)
    return [stage for stage in new.config.then.stages if stage.value not in done]


def submit_left(run: RunDir, plan: RunPlan, job: Job, left: Sequence[Stage]) -> Launched:
    """Queue what is left of a run whose training, the job `job`, has completed."""
    carrier = executor(plan.config.cluster.kind.value)
    names = [stage.value for stage in left]
    done = [link for link in read_links(run, job.submission) if link.name not in names]
    exported = next((Path(link.folder) for link in done if link.name == Stage.export.value), None)
    folder, queued = run.submissions / f"{job.submission:04d}", list[Job]()
    with chain.made_ready(run, plan, folder, left, exported) as ready:
        try:
            links = chain.queue(run, plan, ready, carrier, job, queued, done=done)
        except BaseException as error:
            chain.take_back(carrier, queued, error)
            raise
    chain.note(run, ready, links, None)
    new = [link for link in links if link.name in names]
    return Launched(run=run, job_id=job.job_id, data_job_id=None, links=new)
