"""Freeze and submit a sweep: its members become runs, in as few arrays as can be, or nothing is left behind.

Every member is a run like any other from here on. What they share lies in the sweep's own folder.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from launcher.checkpoint.lineage import lineage_of
from launcher.cluster import executor
from launcher.cluster.protocol import Array, Executor, Job
from launcher.config.cluster import ClusterKind
from launcher.errors import Problem, UserError
from launcher.plain import plain
from launcher.plan import prepared
from launcher.plan.slurm import array_parameters
from launcher.plan.sweep import SweepPlan
from launcher.publish import json_text, publish_json, sync_file_system, write_text
from launcher.remember import remembering
from launcher.rundir import ArrayDir, RunDir, SweepDir, sweep_dir
from launcher.runplan import RunPlan
from launcher.runs.chain import take_back
from launcher.runs.events import Event, record
from launcher.runs.freeze import environment, frozen_texts, make_folders, snapshot, writing
from launcher.runs.members import Member, Sampling, SweepRecord

FIRST = "0001"
"""Name of the folder of a run's first submission."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchedSweep:
    """A submitted sweep."""

    folder: SweepDir
    """What its members share."""
    runs: list[RunDir]
    """The members' directories, in order."""
    jobs: list[Job]
    """What carries each."""


def launch_sweep(
    sweep: SweepPlan, words: Sequence[str], *, at_once: int | None, sampling: Sampling | None = None
) -> LaunchedSweep:
    """Freeze all members and queue them; ClusterError, and nothing left of any, if the cluster refuses one.

    `words` is what was typed. At most `at_once` members run at the same time. `sampling` is how they were drawn.
    """
    folder = sweep_dir(Path(sweep.plans[0].config.runs_root), sweep.sweep_id)
    record = SweepRecord(
        sweep_id=sweep.sweep_id,
        time=time.time(),
        typed=list(words),
        at_once=at_once,
        members=_members(sweep),
        sampling=sampling,
    )
    runs, jobs = _launched(sweep, folder, partial(publish_json, folder.members, plain(record)), at_once, [])
    return LaunchedSweep(folder=folder, runs=runs, jobs=jobs)


def launch_more(
    sweep: SweepPlan, folder: SweepDir, old: SweepRecord, new: SweepRecord, jobs: Sequence[Job]
) -> LaunchedSweep:
    """Add members to the sweep in `folder`, whose record is `old`, as `launch_sweep` launches them.

    `new` says how they were drawn, and how many may run at once. `jobs` are those of older members that have not ended.
    """
    assert new.sampling is not None
    own = folder.more(len(new.sampling.drawn))
    new = replace(new, members=[*old.members, *_members(sweep)])
    kind = sweep.plans[0].config.cluster.kind.value
    alive = [job.job_id if job.array is None else job.job_id.rpartition("_")[0] for job in jobs if job.kind == kind]
    before = list(dict.fromkeys(alive))
    with_them, without = (partial(publish_json, folder.members, plain(record)) for record in (new, old))
    try:
        runs, queued = _launched(sweep, own, with_them, new.at_once, before, without)
    except FileExistsError as error:
        raise UserError(
            Problem(
                where=f"sweep {old.sweep_id}",
                message=f"somebody else has added members since it was read, or is about to ({own.root} is there)",
                remedy=f"try again; if nobody has, rm -r {shlex.quote(str(own.root))}",
            )
        ) from error
    return LaunchedSweep(folder=folder, runs=runs, jobs=queued)


def _members(sweep: SweepPlan) -> list[Member]:
    pairs = zip(sweep.plans, sweep.sweep.members, strict=True)
    return [Member(run_id=plan.run_id, overrides=member) for plan, member in pairs]


def _launched(
    sweep: SweepPlan,
    folder: SweepDir,
    listing: Callable[[], None],
    at_once: int | None,
    before: Sequence[str],
    unlisting: Callable[[], None] = lambda: None,
) -> tuple[list[RunDir], list[Job]]:
    """The members' runs, and the jobs that carry them; FileExistsError if `folder` is there, and nothing is done.

    `listing` makes them known as members, `unlisting` undoes that. `before` are jobs of other members, which count
    where there is a limit.
    """
    runs = [RunDir(Path(plan.run_dir)) for plan in sweep.plans]
    carrier = executor(sweep.plans[0].config.cluster.kind.value)
    queued: list[Job] = []
    with writing(runs[0]):
        folder.root.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.root.mkdir(mode=0o700)
    try:
        with remembering(), writing(runs[0]):
            snapshot(folder.code)
            publish_json(folder.environment, environment())
            listing()
            for index, (run, plan) in enumerate(zip(runs, sweep.plans, strict=True)):
                _freeze_member(run, plan, folder, [plan.recipe, *sweep.sweep.overrides(index)])
            # Once for all of them: to sync each file by itself would take longer than everything else.
            sync_file_system(folder.root)
            jobs = _submit(carrier, sweep, folder, at_once, before, queued)
            for run, job in zip(runs, jobs, strict=True):
                write_text(run.job, json_text(plain(job)))
                told = {"job_id": job.job_id, "kind": job.kind, "submission": 1, "data_job_id": job.data_job_id}
                record(run, Event.submitted, 0, **told)
    except BaseException as error:
        try:
            take_back(carrier, queued, error)
        finally:
            unlisting()
            for root in (folder.root, *(run.root for run in runs)):
                shutil.rmtree(root, ignore_errors=True)
        raise
    return runs, jobs


def _freeze_member(run: RunDir, plan: RunPlan, folder: SweepDir, typed: Sequence[str]) -> None:
    make_folders(run)
    (run.submissions / FIRST).mkdir(mode=0o700)
    for link, shared in ((run.code, folder.code), (run.environment, folder.environment)):
        # Relative, so that a runs root that is moved stays whole.
        link.symlink_to(os.path.relpath(shared, run.root))
    write_text(run.lineage, json_text(plain(lineage_of(plan.config.model))))
    for path, text in frozen_texts(run, plan, typed).items():
        write_text(path, text)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """Members that one array can hold: they ask Slurm for the same, and wait for the same data."""

    members: list[int]
    """Numbers of the members."""
    data: str
    """What their data is prepared from."""


def groups(plans: Sequence[RunPlan], most: int | None) -> list[_Group]:
    """All members in as few arrays as can be, none of more than `most` tasks."""
    alike: dict[tuple[str, str], list[int]] = {}
    for index, plan in enumerate(plans):
        # A member's name is all that its script differs in, if it asks for the same.
        asked = json.dumps(plan.slurm).replace(plan.run_id, "")
        alike.setdefault((asked, _data(plan)), []).append(index)
    size = most or len(plans)
    return [
        _Group(members=members[first : first + size], data=data)
        for (_, data), members in alike.items()
        for first in range(0, len(members), size)
    ]


def _data(plan: RunPlan) -> str:
    """What decides a plan's tokens; every run has its own copy of the chat template."""
    specs = [plan.train_data, *plan.eval_data.values()]
    template = plan.config.data.chat_template
    return repr([plan.data_cache, template, [replace(spec, chat_template=None) for spec in specs]])


def _submit(
    carrier: Executor,
    sweep: SweepPlan,
    folder: SweepDir,
    at_once: int | None,
    before: Sequence[str],
    queued: list[Job],
) -> list[Job]:
    """Queue the data jobs, and the arrays after them; the members' jobs, in order. All that is queued is in `queued`.

    Where there are several arrays and a limit, one follows the other, and the first the jobs `before`: Slurm counts the
    tasks of one array only. On one machine there always is a limit.
    """
    kind = sweep.plans[0].config.cluster.kind.value
    turns = at_once is not None or kind == ClusterKind.local.value
    here = partial(Job, kind=kind, host=socket.gethostname(), submission=1)
    arrays = groups(sweep.plans, carrier.most_tasks())
    data_jobs = _data_jobs(carrier, sweep.plans, arrays, here, queued)
    jobs: dict[int, Job] = {}
    for number, group in enumerate(arrays, 1):
        place, data_job = folder.array(number), data_jobs[group.data]
        after = [] if data_job is None else [f"afterok:{data_job}"]
        after += [f"afterany:{job_id}" for job_id in before] if turns else []
        tasks = carrier.submit_array(_array(sweep, group, place, at_once, after), place.root)
        before = [tasks[0].rpartition("_")[0]]
        queued.append(here(job_id=before[0]))
        own = partial(here, data_job_id=data_job, array=str(place.root))
        jobs |= {index: own(job_id=task) for index, task in zip(group.members, tasks, strict=True)}
    return [jobs[index] for index in range(len(sweep.plans))]


def _data_jobs(
    carrier: Executor,
    plans: Sequence[RunPlan],
    arrays: Sequence[_Group],
    here: Callable[..., Job],
    queued: list[Job],
) -> dict[str, str | None]:
    """One job for all members with the same data; None where it is prepared, or each run does it by itself."""
    jobs: dict[str, str | None] = {}
    for data in dict.fromkeys(group.data for group in arrays):
        members = sorted(index for group in arrays if group.data == data for index in group.members)
        first, *others = (plans[index] for index in members)
        if first.data_job is None or prepared.folders(first) is not None:
            jobs[data] = None
            continue
        where = RunDir(Path(first.run_dir)).submissions / FIRST
        job_id = carrier.submit_data_job(first, where, [plan.run_dir for plan in others])
        queued.append(here(job_id=job_id))
        jobs[data] = job_id
    return jobs


def _array(sweep: SweepPlan, group: _Group, place: ArrayDir, at_once: int | None, after: list[str]) -> Array:
    """The array of a group, with the links to its members' directories."""
    plans = [sweep.plans[index] for index in group.members]
    place.tasks.mkdir(parents=True, mode=0o700)
    for task, plan in enumerate(plans):
        (place.tasks / str(task)).symlink_to(os.path.relpath(plan.run_dir, place.tasks))
    first = plans[0]
    parameters: dict[str, Any] = {}
    if first.slurm is not None:
        parameters = array_parameters(first, sweep.sweep_id, place.tasks)
    return Array(
        run_dirs=[plan.run_dir for plan in plans],
        parameters=parameters,
        environment=first.config.cluster.variables,
        at_once=at_once,
        after=after,
    )
