"""Where a run stands, from its files and, where they do not decide, from the queue.

Owns the states. Knows no cluster: the queue is asked through a function.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from launcher.checkpoint.manifest import committed_steps
from launcher.cluster import executor
from launcher.cluster.protocol import Job, QueueState
from launcher.config.cluster import ClusterKind
from launcher.config.survival import Action
from launcher.errors import ClusterError
from launcher.failures import FailureClass
from launcher.publish import read_records
from launcher.rundir import RunDir
from launcher.runs.events import Event
from launcher.runs.history import Attempt, goodput, history, read_attempts
from launcher.runs.interval import suggested_interval
from launcher.runs.job import cancel_requested, read_job
from launcher.runs.outcome import Ending, Outcome, rank_words
from launcher.runs.records import is_step, tail
from launcher.runs.stages import Stage, StageState, data_said, stages


class State(Enum):
    """Where a run can stand."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    REQUEUED = "REQUEUED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


ACTIVE = (State.QUEUED, State.RUNNING, State.REQUEUED)
"""The states of a run that a job still carries."""

AskQueue = Callable[[Job], QueueState]
"""Where a job stands; ClusterError when it cannot be asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """`launcher status --json`; the names are a contract."""

    run_id: str
    """Name of the run."""
    state: State
    """Where it stands."""
    job_id: str | None
    """Job that carries, or last carried, it."""
    attempts: int
    """Starts so far."""
    step: int
    """Optimiser steps done."""
    total_steps: int | None
    """Steps of the whole run; None until training has begun."""
    last_checkpoint: int | None
    """Step of the newest committed checkpoint."""
    lost_steps: int
    """Steps that were done and had to be done again."""
    goodput: float | None
    """Time in steps that count as a share of the time for which the run held its nodes; an estimate."""
    reason: str | None
    """Why the state is what it is, where there is something to say."""
    failure: FailureClass | None
    """What the newest attempt ended of; None while it runs, and where nothing failed."""
    checkpoint_interval: int | None
    """Steps between checkpoints that would lose the least time; None while nothing failed."""
    stages: list[Stage]
    """The chain that the run is, where something is to follow its training; else empty."""


def ask_cluster(job: Job) -> QueueState:
    """Ask the queue that the job was sent to."""
    return executor(job.kind).state(job)


def status(run: RunDir, ask: AskQueue = ask_cluster) -> Status:
    """Where the run stands now. An unreachable queue is told in `reason`; the files answer alone."""
    job = read_job(run)
    state, reason = (State.FAILED, "never submitted") if job is None else _state(run, job, ask)
    events = read_records(run.events)
    passages = history(run, active=state in ACTIVE, events=events)
    starts = [record for record in events if record["event"] == Event.training_started.value]
    steps = [record for record in tail(run.metrics) if is_step(record)]
    checkpoints = committed_steps(run.checkpoints)
    newest = passages[-1].attempt.outcome if passages else None
    return Status(
        run_id=run.root.name,
        state=state,
        job_id=None if job is None else job.job_id,
        attempts=len(passages),
        step=int(steps[-1]["step"]) if steps else 0,
        total_steps=int(starts[-1]["total_steps"]) if starts else None,
        last_checkpoint=checkpoints[-1] if checkpoints else None,
        lost_steps=sum(passage.lost for passage in passages),
        goodput=goodput(passages),
        reason=reason,
        failure=None if newest is None else newest.failure,
        checkpoint_interval=suggested_interval(passages, events),
        stages=[] if job is None else stages(run, job, (StageState(state.value), reason), events, ask),
    )


def _current(run: RunDir, job: Job) -> Attempt | None:
    """The last attempt, if it belongs to this job. A job may begin before the submitting side has noted its id."""
    attempts = read_attempts(run)
    return attempts[-1] if attempts and attempts[-1].submission >= job.submission else None


def _state(run: RunDir, job: Job, ask: AskQueue) -> tuple[State, str | None]:
    decided = _decided_by_files(run, job)
    if decided is not None:
        return decided
    try:
        queue = ask(job)
    except ClusterError as error:
        return _by_files_alone(run, job, error)
    if queue is QueueState.gone:
        # It may have ended between the look at its files and the question.
        return _decided_by_files(run, job) or _gone(run, job)
    return _in_queue(run, job, queue)


def _decided_by_files(run: RunDir, job: Job) -> tuple[State, str | None] | None:
    """The state, where the queue's word cannot change it."""
    attempt = _current(run, job)
    if attempt is None or attempt.outcome is None:
        return None
    outcome = attempt.outcome
    if outcome.state is Ending.completed:
        return State.COMPLETED, outcome.reason
    if cancel_requested(run, job):
        return State.CANCELLED, outcome.reason
    # Slurm starts a job again also on an administrator's word; a job on this machine only on its own.
    final = job.kind == ClusterKind.local.value and outcome.action is Action.stop
    return _ended(outcome) if final else None


def _ended(outcome: Outcome) -> tuple[State, str]:
    """How an attempt that nothing follows leaves the run."""
    if outcome.state is Ending.completed:
        return State.COMPLETED, outcome.reason
    wanted = outcome.state is Ending.stopped or outcome.failure is None
    return State.CANCELLED if wanted else State.FAILED, outcome.reason


def _in_queue(run: RunDir, job: Job, queue: QueueState) -> tuple[State, str | None]:
    attempt = _current(run, job)
    outcome = None if attempt is None else attempt.outcome
    asked = "asked to stop" if cancel_requested(run, job) else None
    if queue is QueueState.pending:
        state = State.QUEUED if attempt is None else State.REQUEUED
        return state, asked or (_waits_for_data(run, job) if outcome is None else _to_be_continued(outcome))
    if outcome is None:
        return State.RUNNING, asked or ("starting" if attempt is None else None)
    # A job whose attempt has ended is on its way out, or on its way back into the queue.
    return _ended(outcome) if outcome.action is Action.stop else (State.REQUEUED, _to_be_continued(outcome))


def _data_said(run: RunDir, job: Job) -> Mapping[str, Any] | None:
    return data_said(read_records(run.events), job)


def _waits_for_data(run: RunDir, job: Job) -> str | None:
    if job.data_job_id is None or _data_said(run, job) is not None:
        return None
    return f"its data is being prepared by job {job.data_job_id}"


def _to_be_continued(outcome: Outcome) -> str:
    where = f" without {outcome.node}" if outcome.action is Action.requeue_elsewhere and outcome.node else ""
    when = " after a pause" if outcome.action is Action.requeue_later else ""
    return f"{outcome.reason}; it starts again{where}{when}"


def _gone(run: RunDir, job: Job) -> tuple[State, str]:
    attempt = _current(run, job)
    if attempt is not None and attempt.outcome is not None:
        if attempt.outcome.action is Action.stop:
            return _ended(attempt.outcome)
        return State.FAILED, _not_continued(run, attempt.outcome)
    if cancel_requested(run, job):
        return State.CANCELLED, "cancelled before it could write a checkpoint" if attempt else "cancelled in the queue"
    if attempt is not None and (ending := _by_words(run, attempt.number)) is not None:
        return ending
    if attempt is None and (said := _data_said(run, job)) is not None and said["event"] == Event.data_failed.value:
        return State.FAILED, f"its data could not be prepared: {said['reason']}"
    if attempt is None and job.data_job_id is not None and said is None:
        reason = f"job {job.data_job_id}, which was to prepare its data, ended without a word"
        return State.FAILED, f"{reason}; its log is below {run.submissions}"
    folder = run.submissions if attempt is None else run.attempt(attempt.number).root
    full = "; the run's file system is full" if shutil.disk_usage(run.root).free < LITTLE_BYTES else ""
    return State.FAILED, f"job {job.job_id} left the queue without a word{full}; its logs are in {folder}"


LITTLE_BYTES = 1 << 20
"""Less than this is no room for a record."""


def _by_words(run: RunDir, attempt: int) -> tuple[State, str] | None:
    """How the ranks say that an attempt ended whose epilogue never ran; None if they left no good word."""
    words = rank_words(run.attempt(attempt))
    if words and all(word.state is Ending.completed for word in words):
        return State.COMPLETED, words[0].reason
    if words and all(word.state is Ending.stopped for word in words):
        why = f"{words[0].reason}; its epilogue died before it could start the run again"
        return State.FAILED, f"{why}: `launcher resume {run.root.name}` goes on"
    return None


def _not_continued(run: RunDir, outcome: Outcome) -> str:
    refusals = [
        str(event["reason"])
        for event in read_records(run.events)
        if event["event"] == Event.requeue_failed.value and event["attempt"] == outcome.attempt
    ]
    why = f" ({refusals[-1]})" if refusals else ""
    return (
        f"{outcome.reason}; it should have started again, and did not{why}: "
        f"`launcher resume {run.root.name}` goes on from the newest checkpoint"
    )


def _by_files_alone(run: RunDir, job: Job, error: ClusterError) -> tuple[State, str]:
    attempt = _current(run, job)
    said = error.problems[0].message
    if attempt is not None and attempt.outcome is not None:
        outcome = attempt.outcome
        if outcome.action is Action.stop:
            state, reason = _ended(outcome)
            return state, f"{reason} (going by the run's files alone: {said})"
        return State.REQUEUED, f"{_to_be_continued(outcome)} (whether it was requeued is not known: {said})"
    state = State.QUEUED if attempt is None else State.RUNNING
    return state, f"going by the run's files alone: {said}"
