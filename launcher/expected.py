"""What a run is expected to take: time, money, disk. A part of the plan; knows not how any of it is reckoned."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """A step, and how fast it goes."""

    tokens: int
    """Tokens that a step takes through the model, over all GPUs."""
    tokens_how: str
    """How that came about, in words."""
    step_s: float | None
    """A step, seconds; None where it is not known."""
    tokens_per_s: float | None
    """Over all GPUs."""
    mfu: float | None
    """Model FLOPs utilisation, a share of the peak of all GPUs."""
    compute_s: float | None
    """Of an estimated step: computing, seconds."""
    traffic_s: float | None
    """Of an estimated step: what collectives take, seconds."""
    how: str
    """How the time came about, or why there is none, in words."""
    not_counted: list[str]
    """What the estimate leaves out, in words."""
    save_s: float
    """A checkpoint, from its beginning to its commit, seconds."""
    stall_s: float
    """Of those, training waits."""
    measured: bool
    """Whether an earlier run tells step and checkpoint; else they are estimated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Disk:
    """What checkpoints take."""

    checkpoint_gb: float
    """One of them, GB."""
    files: int
    """Its files."""
    most: int | None
    """Most that are there at a time, the one that is being written included; None where that grows with the run, whose
    length is not known."""

    @property
    def most_gb(self) -> float | None:
        """All of those, GB."""
        return None if self.most is None else self.most * self.checkpoint_gb


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """A run from its first step to its last."""

    steps: int | None
    """Optimiser steps; None where they are not known."""
    steps_how: str
    """How they came about, or why they are not known, in words."""
    pace: Pace
    """A step."""
    goodput: float | None
    """Time in steps that count as a share of the time allocated; the rest goes to checkpoints and failures."""
    thousand_gpu_hours: float | None
    """GPU-hours of a thousand steps, that rest included."""
    hours: float | None
    """Of the whole run, that rest included, but no waiting in a queue."""
    gpu_hours: float | None
    """The same on all GPUs."""
    price: float | None
    """Of these, where a GPU-hour has a price."""
    interruptions: float | None
    """Failures in that time."""
    jobs: int | None
    """Jobs of `cluster.time_min` each that it takes; None where there are none, or their number is not known."""
    saves: int | None
    """Checkpoints that are written."""
    best_every: int | None
    """Steps between checkpoints that would lose the least time."""
    disk: Disk
    """What checkpoints take."""
