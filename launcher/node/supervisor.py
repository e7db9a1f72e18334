"""Closing an attempt: evidence is gathered, the cause named, and what follows decided and written down. No torch.

Called on the first node when the ranks are gone, or by a later attempt where nobody lived to do it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.config.survival import Action
from launcher.decode import decode
from launcher.node.watchdog import GRACE_S
from launcher.plain import plain
from launcher.publish import publish_json, read_records
from launcher.rundir import AttemptDir, RunDir
from launcher.runplan import RunPlan
from launcher.runs.diagnosis import Diagnosis, Evidence, RankExit, diagnose, srun_exits
from launcher.runs.events import Event, record
from launcher.runs.job import cancelled_submission
from launcher.runs.outcome import Outcome, rank_words, read_outcomes
from launcher.runs.retry import Decision, decide

MOST_SAID_BYTES = 1 << 20
"""Of what Slurm printed; its last words are the ones that count."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """start.json: where and when an attempt began."""

    attempt: int
    """Number of the attempt."""
    job_id: str
    """Job that carries it."""
    submission: int
    """Submission it belongs to, from 1."""
    restarts: int
    """How often the job had been requeued."""
    host: str
    """First node."""
    nodes: str
    """All nodes, in Slurm's notation."""
    said_from: int
    """Bytes of the batch output that belong to earlier attempts."""
    time: float
    """Unix time."""

    def write(self, attempt: AttemptDir) -> None:
        """Publish it in the attempt's folder."""
        publish_json(attempt.start, plain(self))

    @classmethod
    def read(cls, attempt: AttemptDir) -> Start | None:
        """The attempt's start; None if it died before it could say so."""
        if not attempt.start.is_file():
            return None
        return decode(cls, json.loads(attempt.start.read_text(encoding="utf-8")))


def batch_output(run: RunDir, submission: int, job_id: str) -> Path:
    """Where Slurm and srun print; submitit names it so."""
    return run.submissions / f"{submission:04d}" / f"{job_id}_0_log.out"


def close(
    run: RunDir,
    start: Start,
    exit_code: int,
    *,
    exits: Sequence[RankExit] | None = None,
    said_to: int | None = None,
    late: bool = False,
) -> Outcome:
    """Diagnose the attempt and write its outcome. `exits` are the ranks' bad exits, where srun did not tell them."""
    plan = RunPlan.load(run.plan)
    attempt = run.attempt(start.attempt)
    said = _said(batch_output(run, start.submission, start.job_id), start.said_from, said_to)
    evidence = Evidence(
        words=rank_words(attempt),
        exits=srun_exits(said) if exits is None else exits,
        dumped=_dumped(attempt),
        said=said,
        world_size=plan.topology.world_size,
        exit_code=exit_code,
        first_node=start.host,
        closed_late=late,
    )
    return conclude(run, plan, start, diagnose(evidence), exit_code)


def conclude(run: RunDir, plan: RunPlan, start: Start, diagnosis: Diagnosis, exit_code: int) -> Outcome:
    """Decide what follows, and write the outcome and its event."""
    decision = _decision(run, plan, start, diagnosis)
    outcome = Outcome(
        attempt=start.attempt,
        job_id=start.job_id,
        state=diagnosis.state,
        failure=diagnosis.failure,
        reason=diagnosis.reason,
        node=diagnosis.node,
        rank=diagnosis.rank,
        exit_code=exit_code,
        step=diagnosis.step,
        started=start.time,
        ended=time.time(),
        action=decision.action,
        advice=decision.advice,
    )
    try:
        first = outcome.write(run.attempt(start.attempt))
    except OSError as error:
        # What follows does not depend on it: a later attempt, or `launcher status`, reads the ranks' words again.
        print(f"the outcome could not be written: {error}", file=sys.stderr, flush=True)
        return outcome
    if not first:
        # Slurm may start the next attempt before the last one's epilogue is through.
        stands = Outcome.read(run.attempt(start.attempt))
        assert stands is not None, "it was there a moment ago"
        return stands
    fields = {key: value for key, value in plain(outcome).items() if key in TOLD}
    record(run, Event.attempt_ended, start.attempt, **fields)
    if outcome.action is Action.requeue_elsewhere and outcome.node is not None:
        record(run, Event.node_excluded, start.attempt, node=outcome.node, reason=outcome.reason)
    return outcome


TOLD = ("state", "failure", "reason", "node", "exit_code", "step", "action", "advice")
"""Fields of the outcome that the event carries."""


def _decision(run: RunDir, plan: RunPlan, start: Start, diagnosis: Diagnosis) -> Decision:
    earlier = read_outcomes(run, before=start.attempt)
    mine = [outcome.attempt for outcome in earlier if _submission(run, outcome.attempt) == start.submission]
    committed = {event["attempt"] for event in read_records(run.events) if event["event"] in COMMITS}
    decision = decide(
        diagnosis,
        plan.config.retry,
        earlier,
        cancelled=cancelled_submission(run) == start.submission,
        progress=[number in committed for number in (*mine, start.attempt)],
    )
    # On this machine there is no other node to go to.
    alone = plan.slurm is None and decision.action is Action.requeue_elsewhere
    return replace(decision, action=Action.requeue) if alone else decision


COMMITS = (Event.checkpoint.value, Event.recovered.value, Event.compared.value)
"""Events of an attempt that got somewhere."""


def _submission(run: RunDir, attempt: int) -> int:
    start = Start.read(run.attempt(attempt))
    return 0 if start is None else start.submission


def _said(path: Path, first: int, last: int | None) -> str:
    """What was printed from byte `first` to `last`."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END) if last is None else last
            file.seek(max(first, end - MOST_SAID_BYTES))
            return file.read(max(0, end - file.tell())).decode(errors="replace")
    except FileNotFoundError:
        return ""


TOGETHER_S = GRACE_S - 1
"""Ranks that wait for the same one dump their stacks within so long of each other."""


def _dumped(attempt: AttemptDir) -> list[int]:
    """Ranks whose watchdog wrote stacks while they waited.

    A rank that was stopped dumps too, once srun's SIGCONT at the end of the step wakes it: after those that it kept
    waiting have ended.
    """
    files = [file for file in attempt.root.glob("rank-*.stacks") if "Timeout (" in file.read_text(errors="replace")]
    written = {int(file.stem.removeprefix("rank-")): file.stat().st_mtime for file in files}
    first = min(written.values(), default=0.0)
    return sorted(rank for rank, moment in written.items() if moment - first < TOGETHER_S)
