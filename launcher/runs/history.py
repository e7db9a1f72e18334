"""What a run's attempts did, and what became of it: from their folders, the events and the ends of the metrics.

Owns the arithmetic of time and steps. Knows no queue. Reads of metrics.jsonl only where each attempt ends, so that a
question costs the same on the last day of a run as on the first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from launcher.publish import read_records
from launcher.rundir import AttemptDir, RunDir
from launcher.runs.events import Event, of_kind
from launcher.runs.outcome import Outcome
from launcher.runs.records import last_steps


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """What an attempt's folder says."""

    number: int
    """From 1."""
    submission: int
    """Submission that it belongs to; 0 if it died before it could say so."""
    nodes: str | None
    """Where it ran, in Slurm's notation, or its first node."""
    started: float | None
    """Unix time."""
    outcome: Outcome | None
    """How it ended; None while it runs, or if nobody lived to say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """What an attempt did to the run."""

    attempt: Attempt
    """Itself."""
    ended: float | None
    """Unix time; None while it may be running. Where nobody lived to say, the last time that it wrote something."""
    first: int | None
    """Steps done when its training began; None if it never did."""
    last: int | None
    """The last step it reached."""
    kept: int
    """Steps it did that count: no later attempt did them again."""
    lost: int
    """Steps it did that had to be done again, by a later attempt or, after a rollback, by itself."""
    step_s: float | None
    """Mean time of its last steps, seconds."""

    def allocated_s(self, now: float) -> float:
        """Seconds for which it held its nodes."""
        started = self.attempt.started
        return 0.0 if started is None else max(0.0, (now if self.ended is None else self.ended) - started)


def read_attempts(run: RunDir) -> list[Attempt]:
    """All attempts, in order."""
    return [_read_attempt(run.attempt(number), number) for number in run.attempt_numbers()]


def _read_attempt(folder: AttemptDir, number: int) -> Attempt:
    start = json.loads(folder.start.read_text(encoding="utf-8")) if folder.start.is_file() else {}
    return Attempt(
        number=number,
        submission=int(start.get("submission", 0)),
        nodes=start.get("nodes") or start.get("host"),
        started=start.get("time"),
        outcome=Outcome.read(folder),
    )


def history(run: RunDir, *, active: bool, events: Sequence[Mapping[str, Any]] | None = None) -> list[Passage]:
    """Every attempt with what it did. `active`: the last one, if it has no outcome, still runs."""
    attempts = read_attempts(run)
    events = read_records(run.events) if events is None else events
    starts = {int(event["attempt"]): int(event["step"]) for event in of_kind(events, Event.training_started)}
    passages = [_passage(run, attempt, starts.get(attempt.number), events) for attempt in attempts]
    if active and attempts and attempts[-1].outcome is None:
        passages[-1] = replace(passages[-1], ended=None)
    return _settled(passages)


def _passage(run: RunDir, attempt: Attempt, first: int | None, events: Sequence[Mapping[str, Any]]) -> Passage:
    steps = last_steps(run.metrics, attempt.number)
    times = [float(step["step_time_s"]) for step in steps]
    redone = sum(
        int(event["last"]) - int(event["first"]) + 1
        for event in of_kind(events, Event.rolled_back)
        if event["attempt"] == attempt.number
    )
    return Passage(
        attempt=attempt,
        ended=_last_sign(run, attempt) if attempt.outcome is None else attempt.outcome.ended,
        first=first,
        last=int(steps[-1]["step"]) if steps else first,
        kept=0,
        lost=redone,
        step_s=sum(times) / len(times) if times else None,
    )


def _last_sign(run: RunDir, attempt: Attempt) -> float | None:
    """When an attempt that nobody closed last wrote something."""
    times = [file.stat().st_mtime for file in run.attempt(attempt.number).root.iterdir()]
    return max([*times, attempt.started or 0.0])


def _settled(passages: Sequence[Passage]) -> list[Passage]:
    """The same with `kept` and `lost`: what a later attempt began before, it did again."""
    settled: list[Passage] = []
    again_from: int | None = None
    for passage in reversed(passages):
        if passage.first is None or passage.last is None:
            settled.append(passage)
            continue
        end = passage.last if again_from is None else min(passage.last, again_from)
        kept = max(0, end - passage.first)
        settled.append(replace(passage, kept=kept, lost=passage.lost + passage.last - passage.first - kept))
        again_from = passage.first if again_from is None else min(again_from, passage.first)
    return settled[::-1]


def goodput(passages: Sequence[Passage], now: float | None = None) -> float | None:
    """Time in steps that count as a share of the time allocated; None before the first step.

    An estimate: of each attempt, the steps that count times the mean time of its last ones (about 250).
    """
    if all(passage.step_s is None for passage in passages):
        return None
    allocated = allocated_s(passages, now)
    useful = sum(passage.kept * passage.step_s for passage in passages if passage.step_s is not None)
    return round(min(1.0, useful / allocated), 3) if allocated > 0 else None


def allocated_s(passages: Sequence[Passage], now: float | None = None) -> float:
    """Seconds for which the run has held nodes, over all attempts."""
    now = time.time() if now is None else now
    return sum(passage.allocated_s(now) for passage in passages)
