"""How often a checkpoint is worth its time. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from launcher.failures import DETERMINISTIC, FailureClass
from launcher.runs.events import Event
from launcher.runs.history import Passage, allocated_s
from launcher.runs.outcome import Ending

FORESEEN = (FailureClass.time_limit, *DETERMINISTIC)
"""Failures that do not strike at any moment: the clock brings them, or the first step does."""


def unplanned(passages: Sequence[Passage]) -> int:
    """Endings that took what was done since the last checkpoint: no time limit, and no stop that wrote one."""
    outcomes = (passage.attempt.outcome for passage in passages)
    return sum(
        outcome is not None
        and outcome.state is Ending.failed
        and outcome.failure is not None
        and outcome.failure not in FORESEEN
        for outcome in outcomes
    )


def suggested_interval(
    passages: Sequence[Passage], events: Sequence[Mapping[str, Any]], now: float | None = None
) -> int | None:
    """Steps between checkpoints that lose the least time; None while nothing failed or too little is known.

    MTTF is the time allocated over the number of unplanned endings, T_save the time for which training waits.
    """
    failures = unplanned(passages)
    saves = [event for event in events if event["event"] == Event.checkpoint.value and "seconds" in event]
    step_s = next((passage.step_s for passage in reversed(passages) if passage.step_s), None)
    if not failures or not saves or step_s is None:
        return None
    seconds = statistics.median(float(event["seconds"]) for event in saves)
    stalled_s = statistics.median(float(event.get("stalled_s", event["seconds"])) for event in saves)
    return best_interval(allocated_s(passages, now) / failures, seconds, stalled_s, step_s)


def best_interval(mttf_s: float, save_s: float, stall_s: float, step_s: float) -> int:
    """Steps of `step_s` between checkpoints, where failures come every `mttf_s` and training waits `stall_s` for each.

    √(2·MTTF·T_save), the first order of J. W. Young, "A first order approximation to the optimum checkpoint interval",
    CACM 17(9), 1974. A checkpoint that is written while training goes on must be done, after `save_s`, before the next
    one begins.
    """
    return max(1, round(max(math.sqrt(2 * mttf_s * stall_s), save_s) / step_s))
