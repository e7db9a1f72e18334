"""The chain that a run is: data, training, and the jobs that follow it. Which stage stands where, and why.

submit/then.json names the jobs that follow; what each leaves in its folder says how it ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from launcher.cluster.protocol import Executor, Job, QueueState
from launcher.decode import decode
from launcher.errors import ClusterError
from launcher.plain import plain
from launcher.publish import publish_json, publish_json_once
from launcher.rundir import RunDir, StageDir
from launcher.runs.events import Event, record


class StageState(Enum):
    """Where a stage can stand."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    REQUEUED = "REQUEUED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"


TRAIN = "train"
UNDER_WAY = (StageState.QUEUED, StageState.RUNNING, StageState.REQUEUED)
"""States that are not the last."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage, as `launcher status --json` tells it."""

    name: str
    """`prepare`, `train`, `export` or `eval`."""
    state: StageState
    """Where it stands; SKIPPED where an earlier stage has failed or was cancelled."""
    job_id: str
    """Its job."""
    reason: str | None
    """Why, where there is something to say."""
    log: str | None
    """What it printed; None for training, whose logs `launcher logs` shows, and where it has printed nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """A job that follows training."""

    name: str
    """`export` or `eval`."""
    job: Job
    """Itself; its submission is that of the training."""
    folder: str
    """Where it works."""


def write_links(run: RunDir, links: Sequence[Link]) -> None:
    """Make these the jobs that follow the run's training."""
    publish_json(run.then, [plain(link) for link in links])


def read_links(run: RunDir, submission: int) -> list[Link]:
    """The jobs that follow the training of that submission; none where it has none."""
    if not run.then.is_file():
        return []
    try:
        links = [decode(Link, item) for item in json.loads(run.then.read_text(encoding="utf-8"))]
    except (ValueError, AssertionError, TypeError):
        # As of a job's record: half of it names no job.
        return []
    return [link for link in links if link.job.submission == submission]


def under_way(stages: Sequence[Stage]) -> list[str]:
    """Names of the stages after training that have not ended."""
    names = [stage.name for stage in stages]
    later = stages[names.index(TRAIN) + 1 :] if TRAIN in names else []
    return [stage.name for stage in later if stage.state in UNDER_WAY]


def withdraw(run: RunDir, job: Job, stages: Sequence[Stage], carrier: Executor, why: str) -> list[str]:
    """End the stages after training that have not ended, and say why in their folders; their names."""
    names = under_way(stages)
    for link in reversed(read_links(run, job.submission)):
        if link.name in names:
            carrier.withdraw(link.job)
            publish_json_once(StageDir(Path(link.folder)).failure, {"reason": why, "state": StageState.CANCELLED.value})
    if names:
        record(run, Event.stages_withdrawn, 0, names=names)
    return names


def data_said(events: Sequence[Mapping[str, Any]], job: Job) -> Mapping[str, Any] | None:
    """The last event of the job that tokenises for `job`."""
    kinds = (Event.data_prepared.value, Event.data_failed.value)
    said = [event for event in events if event["event"] in kinds]
    return next((event for event in reversed(said) if event["submission"] == job.submission), None)


def stages(
    run: RunDir,
    job: Job,
    training: tuple[StageState, str | None],
    events: Sequence[Mapping[str, Any]],
    ask: Callable[[Job], QueueState],
) -> list[Stage]:
    """Every stage in order, the state of training being known; none for a run that nothing follows.

    A stage whose turn has not come is not asked about: the queue holds it back.
    """
    links = read_links(run, job.submission)
    if not links:
        return []
    state, reason = training
    found = [Stage(name=TRAIN, state=state, job_id=job.job_id, reason=reason, log=None)]
    for link in links:
        found.append(_stage(link, found[-1], ask))
    return [*_prepare(run, job, state, events, ask), *found]


def _prepare(
    run: RunDir, job: Job, training: StageState, events: Sequence[Mapping[str, Any]], ask: Callable[[Job], QueueState]
) -> list[Stage]:
    """The job that tokenises, where there is one."""
    if job.data_job_id is None:
        return []
    said, reason = data_said(events, job), None
    if said is not None:
        state = StageState.COMPLETED if said["event"] == Event.data_prepared.value else StageState.FAILED
        reason = said.get("reason")
    elif training is StageState.CANCELLED:
        state = StageState.CANCELLED
    elif training not in UNDER_WAY:
        state, reason = StageState.FAILED, f"job {job.data_job_id} ended without a word"
    else:
        own = Job(kind=job.kind, job_id=job.data_job_id, host=job.host, submission=job.submission)
        state, reason = _in_queue(own, ask) or (StageState.RUNNING, None)
    log = _log(run.submissions / f"{job.submission:04d}" / "data", job.data_job_id)
    return [Stage(name="prepare", state=state, job_id=job.data_job_id, reason=reason, log=log)]


def _stage(link: Link, before: Stage, ask: Callable[[Job], QueueState]) -> Stage:
    folder = StageDir(Path(link.folder))
    state, reason = _state(link, folder, before, ask)
    return Stage(
        name=link.name,
        state=state,
        job_id=link.job.job_id,
        reason=reason,
        log=_log(folder.submission, link.job.job_id),
    )


def _state(
    link: Link, folder: StageDir, before: Stage, ask: Callable[[Job], QueueState]
) -> tuple[StageState, str | None]:
    settled = _settled(folder, before)
    if settled is not None:
        return settled
    if before.state in UNDER_WAY:
        return StageState.QUEUED, f"after job {before.job_id} ({before.name})"
    queued = _in_queue(link.job, ask)
    if queued is not None:
        return queued
    # It may have ended between the look at its files and the question.
    settled = _settled(folder, before)
    if settled is not None:
        return settled
    if before.state is not StageState.COMPLETED:
        return StageState.SKIPPED, f"{before.name} is {before.state.value}"
    return StageState.FAILED, f"job {link.job.job_id} ended without a word"


def _settled(folder: StageDir, before: Stage) -> tuple[StageState, str | None] | None:
    """What it left says. One that ran only to see that the stage before it had come to nothing is none that failed."""
    if folder.results.is_file():
        return StageState.COMPLETED, None
    try:
        said = json.loads(folder.failure.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    own = StageState.FAILED if before.state is StageState.COMPLETED else StageState.SKIPPED
    return StageState(said.get("state", own.value)), str(said["reason"])


def _in_queue(job: Job, ask: Callable[[Job], QueueState]) -> tuple[StageState, str | None] | None:
    """None where the queue has it no more."""
    try:
        queue = ask(job)
    except ClusterError as error:
        return StageState.QUEUED, f"going by the run's files alone: {error.problems[0].message}"
    return {
        QueueState.pending: (StageState.QUEUED, None),
        QueueState.running: (StageState.RUNNING, None),
        QueueState.gone: None,
    }[queue]


def _log(folder: Path, job_id: str) -> str | None:
    """What a job printed, by the names that submitit and a process of this machine give it."""
    candidates = [folder / name for name in (f"{job_id}_0_log.out", f"{job_id}_log.out", "local.log")]
    return next((str(path) for path in candidates if path.is_file()), None)
