"""Watching a run to its end. Reads what the run writes; touches nothing, so that going away costs nothing.

Owns what is told and when. How it looks is the business of a Screen (`runs.screen`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from launcher.cluster.protocol import QueueState
from launcher.errors import ClusterError
from launcher.publish import read_records
from launcher.rundir import RunDir
from launcher.runs.events import Event
from launcher.runs.job import read_job
from launcher.runs.records import NewRecords, is_step
from launcher.runs.screen import Screen
from launcher.runs.status import ACTIVE, AskQueue, State, Status, ask_cluster, status

LOOK_S = 0.3
"""Between looks at the run's files."""
FIRST_ASK_S, LONGEST_ASK_S = 2.0, 30.0
"""Between questions to the queue, which a whole cluster shares: the longer nothing happens, the rarer."""
ENDING_S = 60.0
"""How long a job that failed may stay in the queue before we stop waiting to see whether it is requeued."""


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
        self._seen_attempts, self._skip = _before_this_submission(run)
        self._phase = ""
        self._training = False

    def watch(self) -> Status:
        pause, next_ask = FIRST_ASK_S, 0.0
        waiting_since: float | None = None
        while True:
            ended = self._show_new()
            now = time.monotonic()
            if ended or now >= next_ask:
                found = status(self._run, self._ask)
                if found.state not in ACTIVE:
                    waiting_since = waiting_since or now
                    if not self._may_come_back(found) or now - waiting_since > ENDING_S:
                        self._show_new()
                        return found
                else:
                    waiting_since = None
                    self._tell_phase(found)
                pause = FIRST_ASK_S if ended else min(LONGEST_ASK_S, pause * 1.3)
                next_ask = now + pause
            time.sleep(LOOK_S)

    def _may_come_back(self, found: Status) -> bool:
        """Whether a failed attempt's job is still leaving the queue, from where it may be requeued."""
        job = read_job(self._run)
        if job is None or found.state is not State.FAILED:
            return False
        try:
            return self._ask(job) is not QueueState.gone
        except ClusterError:
            return False

    def _show_new(self) -> bool:
        """Show every new record; whether an attempt ended among them."""
        events = self._events.read()
        ended = False
        for event in events[self._skip :]:
            # Whatever an event follows was written before it: the last steps are shown before the end.
            if event["event"] != Event.training_started.value:
                self._show_metrics()
            self._tell(event)
            ended = ended or event["event"] == Event.attempt_ended.value
        self._skip = max(0, self._skip - len(events))
        self._show_metrics()
        return ended

    def _show_metrics(self) -> None:
        for record in self._metrics.read():
            if record["attempt"] <= self._seen_attempts:
                continue
            if is_step(record):
                self._screen.step(record)
            else:
                self._screen.evaluation(record)

    def _tell(self, event: dict[str, Any]) -> None:
        if event["event"] == Event.training_started.value:
            self._training = True
            self._screen.begin(int(event["step"]), int(event["total_steps"]))
        elif event["event"] == Event.attempt_ended.value:
            self._training = False
        self._screen.say(words(event))

    def _tell_phase(self, found: Status) -> None:
        phase = "" if self._training else " ".join(_phase(self._run, found))
        if phase and phase != self._phase:
            self._screen.say(phase)
        self._phase = phase


def _before_this_submission(run: RunDir) -> tuple[int, int]:
    """The number of the last attempt, and of events, that came before the newest submission."""
    events = read_records(run.events)
    submissions = [index for index, event in enumerate(events) if event["event"] == Event.submitted.value]
    first = submissions[-1] if submissions else 0
    return max((int(event["attempt"]) for event in events[:first]), default=0), first


def _phase(run: RunDir, found: Status) -> Iterator[str]:
    """What a run does that is not training."""
    if found.state is not State.RUNNING:
        yield f"{found.state.value.lower()} (job {found.job_id})"
    elif found.attempts and run.attempt(found.attempts).rank_log(0).is_file():
        yield "ranks started: loading the model"
    elif found.attempts and run.attempt(found.attempts).root.is_dir():
        yield "preparing data"
    else:
        yield "starting"
    if found.reason is not None and found.reason != "starting":
        yield f"– {found.reason}"


def words(event: dict[str, Any]) -> str:
    """An event as a person would tell it."""
    texts = {
        Event.submitted: "submitted as job {job_id}",
        Event.attempt_started: "attempt {attempt} started on {host}",
        Event.training_started: "training from step {step} of {total_steps} on {world_size} ranks",
        Event.checkpoint: "checkpoint at step {step}",
        Event.passed_over: "checkpoint at step {step} passed over: {reason}",
        Event.attempt_ended: "attempt {attempt} {state}: {reason}",
        Event.cancel_requested: "asked to stop",
        Event.exported: "exported step {step} to {path}",
    }
    known = {str(kind.value): text for kind, text in texts.items()}
    name = str(event["event"])
    return known.get(name, name).format_map({"state": "ended", **event})
