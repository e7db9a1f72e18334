"""Where a run stands, from its files and, where they do not decide, from the queue.

Owns the states. Knows no cluster: the queue is asked through a function.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from launcher.checkpoint.manifest import committed_steps
from launcher.cluster import executor
from launcher.cluster.protocol import Job, QueueState
from launcher.errors import ClusterError
from launcher.publish import read_records
from launcher.rundir import RunDir
from launcher.runs.events import Event
from launcher.runs.job import cancel_requested, read_job
from launcher.runs.outcome import Ending, Outcome
from launcher.runs.records import is_step, last_step, tail


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
    """Time of the steps that count, as a share of the time since the first start."""
    reason: str | None
    """Why the state is what it is, where there is something to say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """What an attempt's folder says."""

    number: int
    """From 1."""
    submission: int
    """Submission that it belongs to; 0 if it died before it could say so."""
    started: float | None
    """Unix time."""
    outcome: Outcome | None
    """How it ended; None while it runs, or if nobody lived to say."""


def ask_cluster(job: Job) -> QueueState:
    """Ask the queue that the job was sent to."""
    return executor(job.kind).state(job)


def status(run: RunDir, ask: AskQueue = ask_cluster) -> Status:
    """Where the run stands now. An unreachable queue is told in `reason`; the files answer alone."""
    job = read_job(run)
    state, reason = (State.FAILED, "never submitted") if job is None else _state(run, job, ask)
    attempts = read_attempts(run)
    records = [record for record in tail(run.metrics) if is_step(record)]
    starts = [record for record in read_records(run.events) if record["event"] == Event.training_started.value]
    step = int(records[-1]["step"]) if records else 0
    checkpoints = committed_steps(run.checkpoints)
    return Status(
        run_id=run.root.name,
        state=state,
        job_id=None if job is None else job.job_id,
        attempts=len(attempts),
        step=step,
        total_steps=int(starts[-1]["total_steps"]) if starts else None,
        last_checkpoint=checkpoints[-1] if checkpoints else None,
        lost_steps=_lost_steps(run, starts),
        goodput=_goodput(run, attempts, records, active=state in ACTIVE),
        reason=reason,
    )


def read_attempts(run: RunDir) -> list[Attempt]:
    """All attempts, in order."""
    found = []
    for number in run.attempt_numbers():
        folder = run.attempt(number)
        start = json.loads(folder.start.read_text(encoding="utf-8")) if folder.start.is_file() else {}
        found.append(
            Attempt(
                number=number,
                submission=int(start.get("submission", 0)),
                started=start.get("time"),
                outcome=Outcome.read(folder),
            )
        )
    return found


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
    # Only Slurm requeues.
    return _ended(outcome) if job.kind == "local" else None


def _ended(outcome: Outcome) -> tuple[State, str]:
    state = State.CANCELLED if outcome.state is Ending.stopped else State.FAILED
    return state, outcome.reason


def _in_queue(run: RunDir, job: Job, queue: QueueState) -> tuple[State, str | None]:
    attempt = _current(run, job)
    outcome = None if attempt is None else attempt.outcome
    asked = "asked to stop" if cancel_requested(run, job) else None
    if queue is QueueState.pending:
        state = State.QUEUED if attempt is None else State.REQUEUED
        return state, asked or (None if outcome is None else outcome.reason)
    if outcome is None:
        return State.RUNNING, asked or ("starting" if attempt is None else None)
    # A job whose attempt has ended is on its way out, or on its way back into the queue.
    if outcome.state is Ending.stopped:
        return State.REQUEUED, outcome.reason
    return _ended(outcome)


def _gone(run: RunDir, job: Job) -> tuple[State, str]:
    attempt = _current(run, job)
    if attempt is not None and attempt.outcome is not None:
        return _ended(attempt.outcome)
    if cancel_requested(run, job):
        return State.CANCELLED, "cancelled before it could write a checkpoint" if attempt else "cancelled in the queue"
    folder = run.submissions if attempt is None else run.attempt(attempt.number).root
    return State.FAILED, f"job {job.job_id} left the queue without a word; its logs are in {folder}"


def _by_files_alone(run: RunDir, job: Job, error: ClusterError) -> tuple[State, str]:
    attempt = _current(run, job)
    said = error.problems[0].message
    if attempt is not None and attempt.outcome is not None:
        state, reason = _ended(attempt.outcome)
        return state, f"{reason} (whether it was requeued is not known: {said})"
    state = State.QUEUED if attempt is None else State.RUNNING
    return state, f"going by the run's files alone: {said}"


def _lost_steps(run: RunDir, starts: Sequence[dict[str, Any]]) -> int:
    """Sum over attempts of the last step reached less the step that the next one went on from."""
    lost = 0
    for before, after in itertools.pairwise(starts):
        reached = last_step(run.metrics, int(before["attempt"])) or int(before["step"])
        lost += max(0, reached - int(after["step"]))
    return lost


def _goodput(
    run: RunDir, attempts: Sequence[Attempt], records: Sequence[dict[str, Any]], *, active: bool
) -> float | None:
    """Steps that count × mean time of a recent step, over the wall time since the first start."""
    first = next((attempt.started for attempt in attempts if attempt.started is not None), None)
    if first is None or not records:
        return None
    outcome = attempts[-1].outcome
    end = time.time() if active else run.metrics.stat().st_mtime if outcome is None else outcome.ended
    mean_s = sum(float(record["step_time_s"]) for record in records) / len(records)
    return round(min(1.0, int(records[-1]["step"]) * mean_s / (end - first)), 3) if end > first else None
