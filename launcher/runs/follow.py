"""Watching a run to its end. Reads what the run writes; touches nothing, so that going away costs nothing.

Owns what is told and when. How it looks is the business of a Screen (`runs.screen`).
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from launcher.publish import read_records
from launcher.rundir import RunDir
from launcher.runs.events import Event
from launcher.runs.records import NewRecords, is_step
from launcher.runs.screen import Screen
from launcher.runs.stages import under_way
from launcher.runs.status import ACTIVE, AskQueue, State, Status, ask_cluster, status
from launcher.runs.words import words

LOOK_S = 0.3
"""Between looks at the run's files."""
FIRST_ASK_S, LONGEST_ASK_S = 2.0, 30.0
"""Between questions to the queue, which a whole cluster shares: the longer nothing happens, the rarer."""


def follow(run: RunDir, screen: Screen, ask: AskQueue = ask_cluster) -> Status:
    """Show the run until it has ended; returns how. On Ctrl-C the run goes on, and that is said."""
    try:
        return _Watch(run, screen, ask).watch()
    except KeyboardInterrupt:
        screen.say(f"the run goes on; `launcher status {run.root.name}` says how")
        raise
    finally:
        screen.close()


class _Watch:
    """One following of one run."""

    def __init__(self, run: RunDir, screen: Screen, ask: AskQueue) -> None:
        self._run = run
        self._screen = screen
        self._ask = ask
        self._events = NewRecords(run.events)
        self._metrics = NewRecords(run.metrics)
        self._waiting: deque[dict[str, Any]] = deque()
        self._seen_attempts, self._skip = _before_this_submission(run)
        self._phase = ""
        self._training = False
        self._attempt = 0

    def watch(self) -> Status:
        """Until nothing is under way any more: an attempt that another one follows is not the end."""
        pause, next_ask = FIRST_ASK_S, 0.0
        while True:
            ended = self._show_new()
            now = time.monotonic()
            if ended or now >= next_ask:
                found = status(self._run, self._ask)
                if found.state not in ACTIVE and not _to_follow(found):
                    if not ended:
                        # An outcome is there a moment before the event that tells of it.
                        time.sleep(LOOK_S)
                    self._show_new()
                    return found
                self._tell_phase(found)
                pause = FIRST_ASK_S if ended else min(LONGEST_ASK_S, pause * 1.3)
                next_ask = now + pause
            time.sleep(LOOK_S)

    def _show_new(self) -> bool:
        """Show every new record; whether an attempt ended among them."""
        # A step seen before its event was read must wait for it; one written since is shown the next time.
        self._waiting += self._metrics.read()
        settled = len(self._waiting)
        events = self._events.read()
        self._waiting += self._metrics.read()
        ended = False
        for event in events[self._skip :]:
            settled -= self._show_steps(_comes_after(event))
            self._tell(event)
            ended = ended or event["event"] == Event.attempt_ended.value
        self._skip = max(0, self._skip - len(events))
        for _ in range(settled):
            self._show(self._waiting.popleft())
        return ended

    def _show_steps(self, last: tuple[float, float]) -> int:
        """Show waiting records up to (attempt, step) `last`; how many."""
        shown = 0
        while self._waiting and (self._waiting[0]["attempt"], self._waiting[0]["step"]) <= last:
            self._show(self._waiting.popleft())
            shown += 1
        return shown

    def _show(self, record: dict[str, Any]) -> None:
        if record["attempt"] <= self._seen_attempts:
            return
        if is_step(record):
            self._screen.step(record)
        elif "eval_loss" in record:
            self._screen.evaluation(record)

    def _tell(self, event: dict[str, Any]) -> None:
        if event["event"] == Event.attempt_started.value:
            self._attempt = int(event["attempt"])
        elif event["event"] == Event.training_started.value:
            self._training = True
            self._screen.begin(int(event["step"]), int(event["total_steps"]))
        elif event["event"] == Event.attempt_ended.value:
            self._training = False
        # Whoever follows has just submitted, or sees in which state the run is.
        if event["event"] != Event.submitted.value:
            self._screen.say(words(event))

    def _tell_phase(self, found: Status) -> None:
        phase = "" if self._training else " ".join(_phase(self._run, self._attempt, found))
        if phase and phase != self._phase:
            self._screen.say(phase)
        self._phase = phase


def _comes_after(event: dict[str, Any]) -> tuple[float, float]:
    """The last (attempt, step) whose record belongs before the event."""
    attempt = int(event["attempt"])
    if event["event"] == Event.attempt_ended.value:
        return attempt, math.inf
    if event["event"] == Event.checkpoint.value:
        return attempt, int(event["step"])
    return attempt, -1


def _before_this_submission(run: RunDir) -> tuple[int, int]:
    """The number of the last attempt, and of events, that came before the newest submission."""
    events = read_records(run.events)
    submissions = [index for index, event in enumerate(events) if _submits(event)]
    first = submissions[-1] if submissions else 0
    return max((int(event["attempt"]) for event in events[:first]), default=0), first


def _to_follow(found: Status) -> list[str]:
    """Stages that are worth waiting for: after a training that came to nothing they only say so."""
    return under_way(found.stages) if found.state is State.COMPLETED else []


def _submits(event: dict[str, Any]) -> bool:
    """Whether what is followed began with it: a training, or stages alone."""
    alone = event["event"] == Event.stages_submitted.value and event["after"] is None
    return alone or event["event"] == Event.submitted.value


def _phase(run: RunDir, attempt: int, found: Status) -> Iterator[str]:
    """What a run does that is not training; `attempt` is the one of this submission, 0 before it has begun."""
    if found.state not in ACTIVE:
        yield ", ".join(
            f"{stage.name} {stage.state.value.lower()} (job {stage.job_id})"
            for stage in found.stages
            if stage.name in _to_follow(found)
        )
        return
    if found.state is not State.RUNNING:
        yield f"{found.state.value.lower()} (job {found.job_id})"
    elif attempt == 0:
        yield "starting"
    else:
        ready = run.attempt(attempt).rank_log(0).is_file()
        yield "ranks started: loading the model" if ready else "preparing data"
    if found.reason is not None and found.reason != "starting":
        yield f"– {found.reason}"
