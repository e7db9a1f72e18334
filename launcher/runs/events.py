"""events.jsonl: the append-only life of a run. Both sides write to it; nobody rewrites it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from launcher.publish import append_record
from launcher.rundir import RunDir


class Event(Enum):
    """What can happen to a run, and the fields that go with it."""

    submitted = "submitted"
    """job_id, kind, submission, data_job_id (of the job that tokenises first, or null)"""
    data_prepared = "data_prepared"
    """submission, seconds, rows, tokens: the job that tokenises is done"""
    data_failed = "data_failed"
    """submission, reason: it could not, and training will not start"""
    attempt_started = "attempt_started"
    """job_id, restarts, host"""
    training_started = "training_started"
    """step (already done), total_steps, world_size"""
    compared = "compared"
    """set (train or eval), samples: of so many the untrained model, or the teacher, has said what it thinks"""
    checkpoint = "checkpoint"
    """step, seconds (from the copy to the commit), stalled_s (of those, training waited), size (bytes)"""
    save_failed = "save_failed"
    """step, reason: a checkpoint that could not be written, and is not there"""
    passed_over = "passed_over"
    """step, reason: a checkpoint that was not used"""
    recovered = "recovered"
    """step: a checkpoint whose writer died before it could commit it was committed"""
    converted = "converted"
    """step, world_size, seconds: a checkpoint was rewritten for another number of ranks"""
    health = "health"
    """bandwidth_gb_s, seconds, nodes: all nodes were found healthy"""
    unhealthy = "unhealthy"
    """node, reason: a node did not pass its check"""
    number_warning = "number_warning"
    """step, reason: a loss or gradient that went wrong, and was let pass"""
    rolled_back = "rolled_back"
    """step (gone back to), first, last (data steps skipped), reason, file (with the sample ids)"""
    drift_noted = "drift_noted"
    """names: what the nodes have otherwise than the plan, and does not matter"""
    drift_accepted = "drift_accepted"
    """names: what the nodes have otherwise than the plan, and the user accepted"""
    attempt_ended = "attempt_ended"
    """state, failure, reason, node, exit_code, step, action, advice"""
    node_excluded = "node_excluded"
    """node, reason: the run avoids it from now on"""
    requeued = "requeued"
    """action, excluded (list of nodes), restarts"""
    requeue_failed = "requeue_failed"
    """reason: the run should have started again, and will not"""
    postponed = "postponed"
    """until (Unix time): when the next attempt may begin"""
    cancel_requested = "cancel_requested"
    """(none)"""
    exported = "exported"
    """step, path"""
    export_failed = "export_failed"
    """reason: what was to follow training came to nothing"""
    stages_submitted = "stages_submitted"
    """jobs (id by stage), after: what follows training was queued, behind the job `after` (null: training is done)"""
    stages_withdrawn = "stages_withdrawn"
    """names: what was to follow training will not"""
    eval_submitted = "eval_submitted"
    """name, job_id, tasks: benchmarks were asked for"""
    evaluated = "evaluated"
    """name, step, tasks, seconds, path (of the results)"""
    eval_failed = "eval_failed"
    """name, reason"""


def record(run: RunDir, event: Event, attempt: int, **fields: Any) -> bool:
    """Append one event; `attempt` 0 is outside any. False where the disk takes no more, which never ends a run."""
    try:
        append_record(run.events, {"time": round(time.time(), 3), "attempt": attempt, "event": event.value, **fields})
    except OSError as error:
        print(f"the event {event.value} {fields} could not be written: {error}", file=sys.stderr, flush=True)
        return False
    return True


def of_kind(events: Sequence[Mapping[str, Any]], kind: Event) -> list[Mapping[str, Any]]:
    """Those of one kind, in their order."""
    return [event for event in events if event["event"] == kind.value]
