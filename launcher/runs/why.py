"""The story of a run: what each attempt did, how it ended, what that cost, and what follows. How it looks is not ours.

Knows no class of failure better than another: diagnosis and policy have spoken when an attempt ended.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.checkpoint.manifest import committed_steps
from launcher.errors import LauncherError
from launcher.failures import FailureClass
from launcher.publish import read_records
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.advice import memory_advice
from launcher.runs.events import Event, of_kind
from launcher.runs.history import Passage, history
from launcher.runs.outcome import Outcome
from launcher.runs.retry import bad_nodes
from launcher.runs.stages import StageState, under_way
from launcher.runs.status import ACTIVE, AskQueue, State, Status, ask_cluster, status
from launcher.runs.words import clock


@dataclass(frozen=True, kw_only=True, slots=True)
class Chapter:
    """One attempt."""

    attempt: int
    """From 1."""
    nodes: str | None
    """Where it ran."""
    started: float | None
    """Unix time."""
    seconds: float
    """How long it lasted, or has lasted."""
    first_step: int | None
    """Steps done when its training began; None if it never did."""
    last_step: int | None
    """The last step it reached."""
    lost_steps: int
    """Steps of it that had to be done again."""
    ended: str
    """`running`, `unknown` where nobody lived to say, or the state of its outcome."""
    failure: FailureClass | None
    """What it ended of."""
    reason: str | None
    """In words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PassedOver:
    """A checkpoint that was not used."""

    step: int
    """Its step."""
    reason: str
    """What was wrong with it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """`launcher why --json`."""

    status: Status
    """Where the run stands."""
    attempts: list[Chapter]
    """In order."""
    avoided_nodes: dict[str, str]
    """Nodes that the run avoids, each with the reason."""
    passed_over: list[PassedOver]
    """Checkpoints that were not used."""
    rollbacks: int
    """How often training went back over numbers that went wrong."""
    follows: str
    """What happens next, by itself or by the user's hand."""
    change: str
    """What the user can change; empty where there is nothing to do."""
    checkpoint_every: int | None
    """Steps between checkpoints as configured."""


def why(run: RunDir, ask: AskQueue = ask_cluster) -> Story:
    """The story so far."""
    now = status(run, ask)
    events = read_records(run.events)
    passages = history(run, active=now.state in ACTIVE, events=events)
    plan = _plan(run)
    outcomes = [passage.attempt.outcome for passage in passages if passage.attempt.outcome is not None]
    return Story(
        status=now,
        attempts=[_chapter(passage) for passage in passages],
        avoided_nodes=bad_nodes(outcomes)
        | {str(e["node"]): str(e["reason"]) for e in of_kind(events, Event.node_excluded)},
        passed_over=_passed_over(events),
        rollbacks=len(of_kind(events, Event.rolled_back)),
        follows=_follows(now, _newest_usable(run, events), events),
        change=_change(now, passages[-1].attempt.outcome if passages else None, plan),
        checkpoint_every=None if plan is None else plan.config.checkpoint.every_steps,
    )


def _plan(run: RunDir) -> RunPlan | None:
    """The plan, as far as this version can read it: the story can be told without."""
    try:
        return RunPlan.load(run.plan)
    except LauncherError:
        return None


def _chapter(passage: Passage) -> Chapter:
    attempt, outcome = passage.attempt, passage.attempt.outcome
    silence = "running" if passage.ended is None else "unknown"
    return Chapter(
        attempt=attempt.number,
        nodes=attempt.nodes,
        started=attempt.started,
        seconds=passage.allocated_s(time.time()),
        first_step=passage.first,
        last_step=passage.last,
        lost_steps=passage.lost,
        ended=silence if outcome is None else outcome.state.value,
        failure=None if outcome is None else outcome.failure,
        reason=None if outcome is None else outcome.reason,
    )


def _passed_over(events: Sequence[Mapping[str, Any]]) -> list[PassedOver]:
    """Each checkpoint once, however many attempts looked at it."""
    reasons = {int(event["step"]): str(event["reason"]) for event in of_kind(events, Event.passed_over)}
    return [PassedOver(step=step, reason=reason) for step, reason in sorted(reasons.items())]


def _newest_usable(run: RunDir, events: Sequence[Mapping[str, Any]]) -> int | None:
    """Step of the newest checkpoint that was not passed over since it was written."""
    written = (Event.checkpoint.value, Event.recovered.value)
    last = {event["step"]: event["event"] for event in events if event["event"] in (*written, Event.passed_over.value)}
    usable = [step for step in committed_steps(run.checkpoints) if last.get(step) != Event.passed_over.value]
    return usable[-1] if usable else None


def _follows(now: Status, newest: int | None, events: Sequence[Mapping[str, Any]]) -> str:
    checkpoint = "the beginning" if newest is None else f"the checkpoint at step {newest}"
    if now.state is State.COMPLETED:
        return _follows_training(now)
    if now.state is State.RUNNING:
        return "nothing to do: it runs"
    if now.state in ACTIVE:
        # A newer attempt has begun after any earlier postponement.
        last = events[-1] if events else {}
        later = f", not before {clock(last['until'])}" if last.get("event") == Event.postponed.value else ""
        return f"nothing to do: it goes on from {checkpoint} by itself{later}"
    return f"`launcher resume {now.run_id}` goes on from {checkpoint}"


def _follows_training(now: Status) -> str:
    waiting = under_way(now.stages)
    if waiting:
        return f"nothing to do: {' and '.join(waiting)} will follow"
    undone = [stage.name for stage in now.stages if stage.state is not StageState.COMPLETED]
    if undone:
        return f"`launcher resume {now.run_id}` queues {' and '.join(undone)} again"
    done = "the model is in its export/" if now.stages else f"`launcher export {now.run_id}` writes the model"
    return f"nothing is left to do; {done}"


def _change(now: Status, newest: Outcome | None, plan: RunPlan | None) -> str:
    if newest is None or now.state in (State.RUNNING, State.COMPLETED, State.CANCELLED):
        return ""
    if newest.failure is FailureClass.out_of_memory and plan is not None:
        return memory_advice(plan)
    return newest.advice
