"""The types of the config keys that say how a run survives: what follows a failure, how long a phase may take, when
numbers are wrong, what a node must have. Values live in `conf/`, like those of `schema`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Action(Enum):
    """What follows a failure."""

    requeue = "requeue"
    """Start again as soon as Slurm lets it."""
    requeue_elsewhere = "requeue_elsewhere"
    """Start again without the node at fault."""
    requeue_later = "requeue_later"
    """Start again after `retry.pause_s`."""
    stop = "stop"
    """Leave it to the user."""


class Guard(Enum):
    """What follows numbers that go wrong."""

    off = "off"
    """Nothing; nobody looks."""
    warn = "warn"
    """An event."""
    stop = "stop"
    """The run ends."""
    rollback = "rollback"
    """Back to the last checkpoint, and on with the data behind the window that did it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryConfig:
    """What follows each class of failure (`launcher.failures`). What would only happen again is never requeued."""

    preempted: Action
    """Preempted by the scheduler."""
    time_limit: Action
    """The job's time was up."""
    node_failure: Action
    """A node died or was found unhealthy."""
    lost_process: Action
    """A rank was killed or crashed."""
    gpu_error: Action
    """A device failed."""
    communication: Action
    """Ranks lost each other."""
    hang: Action
    """A phase took longer than its limit."""
    disk_full: Action
    """A file system took no more."""
    not_a_number: Action
    """The loss was not a number and could not be rolled back."""
    bug: Action
    """An error that nothing else explains."""
    pause_s: int
    """Seconds that `requeue_later` waits."""
    max_without_progress: int
    """Attempts in a row without a new checkpoint after which the run stops, whatever the class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchdogConfig:
    """Longest time of each phase, seconds; a rank that takes longer dumps its stacks and ends. Null never ends it."""

    start_s: int | None
    """From the start of a rank to its first step: imports, meeting, loading, verifying a checkpoint."""
    step_s: int | None
    """An optimiser step or a batch of an evaluation. Ten times the slowest recent step if that is longer."""
    save_s: int | None
    """Waiting for a checkpoint to be copied, or written where training waits for it."""
    end_s: int | None
    """From the last word of a rank to the end of its process."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardConfig:
    """Numbers that go wrong while training."""

    not_a_number: Guard
    """The loss, or the norm of the gradient, is not a number."""
    spike: Guard
    """The loss is more than `spike_factor` times the mean of the last `spike_window` steps."""
    spike_factor: float
    """How far a loss may jump."""
    spike_window: int
    """Optimiser steps that the mean is taken over."""
    max_rollbacks: int
    """Rollbacks of the whole run, after which it stops."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HealthConfig:
    """The check of every node before training."""

    enabled: bool
    """Whether nodes are checked."""
    min_free_memory_gb: float
    """Host memory that must be free, GiB."""
    min_free_disk_gb: float
    """Space that must be free where the run and temporary files lie, GiB."""
    max_clock_skew_s: float
    """Most that a node's clock may differ from the file system's."""
    min_bandwidth_gb_s: float | None
    """Slowest all-reduce (bus bandwidth, GB/s) that training starts with; null only measures it."""
