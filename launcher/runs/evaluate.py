"""Benchmarks of a run: what is asked for is frozen in a folder of its own, and a job is queued that answers it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.checkpoint.manifest import committed_steps
from launcher.cluster import executor
from launcher.cluster.protocol import Executor, Job, QueueState, StageJob
from launcher.config.cluster import ClusterKind
from launcher.errors import DoesNotHoldError, NotFoundError, Problem, UserError
from launcher.evaluate.request import Request, Results
from launcher.evaluate.task_files import copy_tasks, digest, is_file
from launcher.objectives.registry import objective_of
from launcher.plain import plain
from launcher.plan.mounts import hub_folders, mounts
from launcher.plan.slurm import eval_job_parameters
from launcher.publish import publish_json
from launcher.rundir import ArrayDir, EvalDir, RunDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event, record
from launcher.runs.freeze import snapshot
from launcher.runs.job import read_job
from launcher.runs.status import ACTIVE, status

MOST_NAME = 40
POLL_S = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What a person typed."""

    tasks: Sequence[str]
    """Names of the harness's tasks, and task files."""
    step: int | None
    """`--step`."""
    limit: int | None
    """`--limit`."""
    few_shot: int | None
    """`--few-shot`."""
    chat: bool
    """`--chat`."""
    batch_size: int
    """`--batch-size`."""
    work_dir: Path
    """Relative paths start here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Queued:
    """A queued evaluation."""

    folder: EvalDir
    """Its folder."""
    job: Job
    """The job that carries it."""
    after: str | None
    """The job that it waits for."""


def evaluate(run: RunDir, asked: Asked, cluster: Executor | None = None) -> Queued:
    """Queue it. UserError or NotFoundError for what cannot be answered, ClusterError if the cluster refuses; then
    nothing is left of it.
    """
    plan = RunPlan.load(run.plan)
    _require_sense(plan, asked)
    kind = plan.config.cluster.kind
    carrier = cluster or executor(kind.value)
    after = _awaited(run, carrier, asked.step)
    stage = make_ready(run, plan, asked, after=after, export=None)
    try:
        job_id = carrier.submit_stage(plan, stage, after=after)
    except BaseException:
        shutil.rmtree(stage.folder, ignore_errors=True)
        raise
    job = Job(kind=kind.value, job_id=job_id, host=socket.gethostname(), submission=1)
    return Queued(folder=note_queued(run, stage, job), job=job, after=after)


def make_ready(run: RunDir, plan: RunPlan, asked: Asked, *, after: str | None, export: Path | None) -> StageJob:
    """A job that can be queued: its request, its tasks and its code lie in a folder of their own.

    It asks what the stage in `export` exports, or sees to that itself. Whatever goes wrong, nothing is left behind.
    """
    folder = _folder(run, asked.tasks)
    try:
        request = _freeze(run, plan, folder, asked, after, export)
    except BaseException:
        shutil.rmtree(folder.root, ignore_errors=True)
        raise
    name = f"{plan.run_id}-{request.name}"
    parameters = _parameters(plan, run, folder, name) if plan.config.cluster.kind is ClusterKind.slurm else {}
    return StageJob(entry="launcher.node.eval_job", folder=folder.root, code=folder.code, parameters=parameters)


def note_queued(run: RunDir, stage: StageJob, job: Job) -> EvalDir:
    """Note which job carries benchmarks, in their folder and among the run's events."""
    folder = EvalDir(stage.folder)
    publish_json(folder.job, plain(job))
    request = Request.read(folder)
    record(run, Event.eval_submitted, 0, name=request.name, job_id=job.job_id, tasks=request.tasks)
    return folder


def _parameters(plan: RunPlan, run: RunDir, folder: EvalDir, name: str) -> dict[str, Any]:
    """submitit's. Tasks may come from the hub, so an image must see its cache, too."""
    seen = mounts(plan.config, run)
    if seen:
        seen = list(dict.fromkeys([*seen, *map(str, hub_folders(plan.config.cluster.variables))]))
    return eval_job_parameters(plan.config.cluster, folder.root, name, prologue=run.prologue, mounts=seen)


def _require_sense(plan: RunPlan, asked: Asked) -> None:
    problems = []
    if objective_of(plan.config).needs.head is not None:
        objective = plan.config.objective.name
        problems.append(
            Problem(
                where=f"run {plan.run_id}",
                message=f"objective={objective} trains a head, and the harness asks language models",
                remedy="its held-out measures are in metrics.jsonl",
            )
        )
    if importlib.util.find_spec("lm_eval") is None:
        problems.append(
            Problem(
                where="--tasks",
                message="lm-evaluation-harness is not installed in this environment",
                remedy="pip install 'zero-launcher[eval]'",
            )
        )
    for flag, value, least in (
        ("--limit", asked.limit, 1),
        ("--few-shot", asked.few_shot, 0),
        ("--batch-size", asked.batch_size, 1),
    ):
        if value is not None and value < least:
            problems.append(Problem(where=flag, message=f"{value} is out of range", valid=f"{least} or more"))
    if problems:
        raise UserError(*problems)


def _awaited(run: RunDir, carrier: Executor, step: int | None) -> str | None:
    """The job that must end first: that of a run which still trains, unless the checkpoint is there already."""
    steps = committed_steps(run.checkpoints)
    if step in steps:
        return None
    now, job = status(run, carrier.state), read_job(run)
    if now.state in ACTIVE and job is not None:
        return _to_wait_for(run, job)
    if step is not None or not steps:
        raise NotFoundError(
            Problem(
                where=f"run {run.root.name}",
                message="it has no checkpoint" if step is None else f"there is no checkpoint at step {step}",
                valid=", ".join(map(str, steps)),
            )
        )
    return None


def _to_wait_for(run: RunDir, job: Job) -> str:
    """The job's id; of a sweep's member on this machine its process, which is there once its turn has come."""
    if job.array is None or job.kind != ClusterKind.local.value:
        return job.job_id
    note = ArrayDir(Path(job.array)).process(int(job.job_id.rpartition("_")[2]))
    if not note.is_file():
        message = "it waits for its turn in a sweep on this machine, so there is nothing to evaluate yet"
        raise UserError(Problem(where=f"run {run.root.name}", message=message, remedy="ask again once it runs"))
    return note.read_text(encoding="utf-8")


def _folder(run: RunDir, tasks: Sequence[str]) -> EvalDir:
    """A new folder, named after the tasks."""
    words = "-".join(Path(task).stem if is_file(task) else task for task in tasks)
    base = re.sub(r"[^A-Za-z0-9_.-]+", "-", words)[:MOST_NAME].strip(".-") or "eval"
    run.evals.mkdir(exist_ok=True, mode=0o700)
    number = 1
    while True:
        folder = run.evaluation(base if number == 1 else f"{base}-{number}")
        try:
            folder.root.mkdir(mode=0o700)
        except FileExistsError:
            number += 1
            continue
        return folder


def _freeze(
    run: RunDir, plan: RunPlan, folder: EvalDir, asked: Asked, after: str | None, export: Path | None
) -> Request:
    snapshot(folder.code)
    files = [task for task in asked.tasks if is_file(task)]
    named = iter(copy_tasks(files, folder.tasks, asked.work_dir)) if files else iter(())
    request = Request(
        run_dir=str(run.root),
        name=folder.root.name,
        tasks=[next(named) if is_file(task) else task for task in asked.tasks],
        task_files=digest(folder.tasks) if files else None,
        offline=len(files) == len(asked.tasks),
        step=asked.step,
        limit=asked.limit,
        few_shot=asked.few_shot,
        chat=asked.chat,
        batch_size=asked.batch_size,
        gpus=plan.config.cluster.eval_job.gpus,
        after=after,
        export=None if export is None else str(export),
    )
    request.write(folder)
    return request


def wait(queued: Queued, cluster: Executor | None = None) -> Results:
    """The results, once the job has ended; DoesNotHoldError when there will be none."""
    carrier = cluster or executor(queued.job.kind)
    folder = queued.folder
    while True:
        # Asked first: what the job leaves may come between two looks.
        gone = carrier.state(queued.job) is QueueState.gone
        results = Results.read(folder)
        if results is not None and gone:
            return results
        if folder.failure.is_file():
            reason = json.loads(folder.failure.read_text(encoding="utf-8"))["reason"]
        elif gone:
            reason = f"job {queued.job.job_id} ended without a word"
        else:
            time.sleep(POLL_S)
            continue
        raise DoesNotHoldError(
            Problem(
                where=f"evaluation {folder.root.name}",
                message=reason,
                remedy=f"the log is in {folder.submission}",
            )
        )
