"""events.jsonl: the append-only life of a run. Both sides write to it; nobody rewrites it."""

from __future__ import annotations

import sys
import time
from enum import Enum
from typing import Any

from launcher.publish import append_record
from launcher.rundir import RunDir


class Event(Enum):
    """What can happen to a run, and the fields that go with it."""

    submitted = "submitted"
    """job_id, kind, submission"""
    attempt_started = "attempt_started"
    """job_id, restarts, host"""
    training_started = "training_started"
    """step (already done), total_steps, world_size"""
    checkpoint = "checkpoint"
    """step, seconds (from the copy to the commit), stalled_s (of those, training waited), size (bytes)"""
    save_failed = "save_failed"
    """step, reason: a checkpoint that could not be written, and is not there"""
    passed_over = "passed_over"
    """step, reason: a checkpoint that was not used"""
    attempt_ended = "attempt_ended"
    """state, failure, reason, node, exit_code, step, action, advice"""
    requeued = "requeued"
    """action, excluded (nodes), restarts (that this makes)"""
    requeue_failed = "requeue_failed"
    """reason"""
    node_excluded = "node_excluded"
    """node, reason"""
    postponed = "postponed"
    """until (Unix time): started too early, and put back"""
    health = "health"
    """nodes, seconds, bandwidth_gb_s: every node passed"""
    unhealthy = "unhealthy"
    """node, reason"""
    recovered = "recovered"
    """step: a checkpoint whose writers died before they could commit it"""
    converted = "converted"
    """step, world_size, seconds: a checkpoint was made fit for another number of ranks"""
    number_warning = "number_warning"
    """step, reason: a number went wrong, and training went on"""
    rolled_back = "rolled_back"
    """step (gone back to), first, last (data steps skipped), reason, file (the samples)"""
    drift_noted = "drift_noted"
    """names: what differs, and does not matter"""
    drift_accepted = "drift_accepted"
    """names: what differs, matters, and was let through by the user"""
    cancel_requested = "cancel_requested"
    """(none)"""
    exported = "exported"
    """step, path"""


def record(run: RunDir, event: Event, attempt: int, **fields: Any) -> None:
    """Append one event; `attempt` 0 is outside any. A disk that takes no more costs the event, not the run."""
    try:
        append_record(run.events, {"time": round(time.time(), 3), "attempt": attempt, "event": event.value, **fields})
    except OSError as error:
        print(f"the event {event.value} {fields} could not be written: {error}", file=sys.stderr, flush=True)
