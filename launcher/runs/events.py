"""events.jsonl: the append-only life of a run. Both sides write to it; nobody rewrites it."""

from __future__ import annotations

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
    """state, reason, exit_code, step"""
    cancel_requested = "cancel_requested"
    """(none)"""
    exported = "exported"
    """step, path"""


def record(run: RunDir, event: Event, attempt: int, **fields: Any) -> None:
    """Append one event; `attempt` 0 is outside any."""
    append_record(run.events, {"time": round(time.time(), 3), "attempt": attempt, "event": event.value, **fields})
