"""What follows a run's training: made ready before anything is queued, and queued behind it."""

from __future__ import annotations

import itertools
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher.cluster.protocol import Executor, Job, StageJob
from launcher.config import then
from launcher.config.cluster import ClusterKind
from launcher.errors import ClusterError, LauncherError, Problem
from launcher.plan.slurm import export_job_parameters
from launcher.plan.then import export_gb
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs import evaluate
from launcher.runs.events import Event, record
from launcher.runs.stages import Link, write_links


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """A stage that can be queued."""

    stage: then.Stage
    """Which one."""
    job: StageJob
    """What carries it."""


@contextmanager
def made_ready(
    run: RunDir, plan: RunPlan, folder: Path, left: Sequence[then.Stage], exported: Path | None = None
) -> Iterator[list[Ready]]:
    """The stages that are left of the run's chain, `folder` being that of the submission; gone if the block raises.

    Where the export is not among them, `exported` is the folder of the one that is done.
    """
    ready: list[Ready] = []
    try:
        for stage in left:
            if stage is then.Stage.export:
                job = _export_job(run, plan, folder)
                exported = job.folder
            else:
                job = evaluate.make_ready(run, plan, _asked(plan), after=None, export=exported)
            ready.append(Ready(stage=stage, job=job))
        yield ready
    except BaseException:
        for one in ready:
            shutil.rmtree(one.job.folder, ignore_errors=True)
        raise


def _export_job(run: RunDir, plan: RunPlan, folder: Path) -> StageJob:
    for number in itertools.count(1):
        place = folder / ("export" if number == 1 else f"export-{number}")
        try:
            place.mkdir(mode=0o700)
        except FileExistsError:
            continue
        break
    cluster, memory_gb = plan.config.cluster, export_gb(plan.config, plan.memory)
    slurm = cluster.kind is ClusterKind.slurm
    parameters = export_job_parameters(cluster, run, plan.run_id, memory_gb) if slurm else {}
    return StageJob(entry="launcher.node.export_job", folder=place, code=run.code, parameters=parameters)


def _asked(plan: RunPlan) -> evaluate.Asked:
    config = plan.config.then
    return evaluate.Asked(
        tasks=config.tasks,
        step=None,
        limit=config.limit,
        few_shot=config.few_shot,
        chat=config.chat,
        batch_size=config.batch_size,
        work_dir=Path.cwd(),
    )


def queue(
    run: RunDir,
    plan: RunPlan,
    ready: Sequence[Ready],
    carrier: Executor,
    job: Job,
    queued: list[Job],
    *,
    done: Sequence[Link] | None = None,
) -> list[Link]:
    """Queue stages, each behind the one before it and the first behind `job`; they follow the run from now on.

    Adds each job to `queued` as it is taken. With `done`, the stages that have ended well, `job` has completed too and
    is not waited for: the queue may have forgotten it.
    """
    links = list(done or ())
    after = job.job_id if done is None else None
    for one in ready:
        # The first one starts however training ended: it is the run's own word that tells whether it completed.
        job_id = carrier.submit_stage(plan, one.job, after=after, needs_success=after not in (None, job.job_id))
        kind = plan.config.cluster.kind.value
        own = Job(kind=kind, job_id=job_id, host=socket.gethostname(), submission=job.submission)
        queued.append(own)
        links.append(Link(name=one.stage.value, job=own, folder=str(one.job.folder)))
        after = job_id
    if links:
        write_links(run, links)
    return links


def take_back(carrier: Executor, queued: Sequence[Job], error: BaseException) -> None:
    """Withdraw jobs whose run is given up for `error`; ClusterError with those that stay."""
    staying = []
    for job in reversed(queued):
        try:
            carrier.withdraw(job)
        except LauncherError:
            staying.append(job.job_id)
    if staying:
        message = f"jobs {', '.join(staying)} were queued, could not be withdrawn after this, and will fail: {error}"
        raise ClusterError(Problem(where="Slurm", message=message, remedy=f"scancel {' '.join(staying)}")) from error


def note(run: RunDir, ready: Sequence[Ready], links: Sequence[Link], after: str | None) -> None:
    """Say among the run's events which of its jobs are new, and behind which job; None where training is done."""
    new = [(one, link) for one in ready for link in links if link.name == one.stage.value]
    if new:
        jobs = {link.name: link.job.job_id for _, link in new}
        record(run, Event.stages_submitted, 0, jobs=jobs, after=after)
    for one, link in new:
        if one.stage is then.Stage.eval:
            evaluate.note_queued(run, one.job, link.job)
