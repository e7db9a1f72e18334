"""A run from its first step to its last: steps, hours, failures, money and checkpoints. Arithmetic only."""

from __future__ import annotations

import math

from launcher.checkpoint.retain import Policy, policy_for
from launcher.config.cluster import ClusterKind
from launcher.config.schema import Config
from launcher.expected import Disk, Expected, Pace
from launcher.length import step_count
from launcher.plan.lead import checkpoint_bytes
from launcher.plan.prepared import Prepared
from launcher.runplan import Lead, Memory, Topology
from launcher.runs.interval import best_interval

RESTART_S = 300.0
"""Assumed from a failure to the next step: noticing it, starting again, loading weights and a checkpoint."""


def expect(
    config: Config, topology: Topology, memory: Memory, lead: Lead, pace: Pace, data: Prepared | None
) -> Expected:
    """The whole run at that pace; what does not follow from what is known is None."""
    steps, how = _length(config, data)
    every = save_every(config, steps)
    share = None if pace.step_s is None else goodput(config, topology, pace, every)
    hours = thousand = None
    if pace.step_s is not None and share:
        thousand = 1000 * pace.step_s / share / 3600 * topology.world_size
        hours = None if steps is None else steps * pace.step_s / share / 3600
    gpu_hours = None if hours is None else hours * topology.world_size
    price, mttf = config.cluster.gpu_hour_price, config.cluster.mttf_hours_per_gpu
    return Expected(
        steps=steps,
        steps_how=how,
        pace=pace,
        goodput=share,
        thousand_gpu_hours=thousand,
        hours=hours,
        gpu_hours=gpu_hours,
        price=None if gpu_hours is None or price is None else gpu_hours * price,
        interruptions=None if gpu_hours is None or mttf is None else gpu_hours / mttf,
        jobs=_jobs(config, lead, hours),
        saves=None if steps is None else saves(config, steps),
        best_every=_best_every(config, topology, pace),
        disk=Disk(
            checkpoint_gb=checkpoint_bytes(config, memory) / 1e9,
            files=checkpoint_files(config, topology),
            most=most_kept(policy_for(config), config, steps),
        ),
    )


def _length(config: Config, data: Prepared | None) -> tuple[int | None, str]:
    train = config.train
    if train.max_steps is not None:
        return min(train.max_steps, train.stop_at or train.max_steps), "as set"
    if data is None:
        return None, "known once the data is prepared"
    steps = step_count(config, data.epoch_size)
    return min(steps, train.stop_at or steps), f"of {data.epoch_size:,} samples in the prepared data"


def save_every(config: Config, steps: int | None) -> int | None:
    """Steps that a failure may take with it: up to a checkpoint, or the end; None where neither is known."""
    every = config.checkpoint.every_steps
    if config.train.patience is not None and config.train.eval_every is not None:
        every = min(every or config.train.eval_every, config.train.eval_every)
    known = [number for number in (every, steps) if number is not None]
    return min(known) if known else None


def goodput(config: Config, topology: Topology, pace: Pace, every: int | None) -> float | None:
    """Time in steps that count as a share of all, with a checkpoint `every` so many steps; None where neither is known.

    To the first order, as in Young's formula: each checkpoint makes training wait, and each failure takes half the time
    between two of them, and a restart.
    """
    if every is None or pace.step_s is None:
        return None
    between_s = every * pace.step_s
    share = between_s / (between_s + pace.stall_s)
    mttf_s = run_mttf_s(config, topology)
    return share if mttf_s is None else max(0.0, share * (1 - (between_s / 2 + RESTART_S) / mttf_s))


def run_mttf_s(config: Config, topology: Topology) -> float | None:
    """Seconds between failures of any of the run's GPUs."""
    hours = config.cluster.mttf_hours_per_gpu
    return None if hours is None else 3600 * hours / topology.world_size


def _best_every(config: Config, topology: Topology, pace: Pace) -> int | None:
    mttf_s = run_mttf_s(config, topology)
    if mttf_s is None or pace.step_s is None:
        return None
    return best_interval(mttf_s, pace.save_s, pace.stall_s, pace.step_s)


def _jobs(config: Config, lead: Lead, hours: float | None) -> int | None:
    """Each job's time but for its start and for the lead before its end."""
    if hours is None or config.cluster.kind is not ClusterKind.slurm:
        return None
    limit_s = 60 * config.cluster.time_min
    if 3600 * hours <= limit_s:
        return 1
    of_each_s = limit_s - lead.seconds - RESTART_S
    return math.ceil(3600 * hours / of_each_s) if of_each_s > 0 else None


def saves(config: Config, steps: int) -> int:
    """Checkpoints that are written on the way and at the end."""
    every, looks = config.checkpoint.every_steps, config.train.eval_every
    on_the_way = 0 if every is None else steps // every
    last = 0 if every is not None and steps % every == 0 else 1
    if config.train.patience is None or looks is None:
        return on_the_way + last
    both = 0 if every is None else steps // math.lcm(every, looks)
    last = 1 if all(number is None or steps % number for number in (every, looks)) else 0
    return on_the_way + steps // looks - both + last


def most_kept(policy: Policy, config: Config, steps: int | None) -> int | None:
    """Most checkpoints that are there at a time: one goes only when the next is whole."""
    written = None if steps is None else saves(config, steps)
    if policy.last is None:
        return written
    kept = max(1, policy.last) + (policy.best or 0) + 1
    if policy.every is not None:
        if steps is None:
            return None
        kept += steps // policy.every
    return kept if written is None else min(written, kept)


def checkpoint_files(config: Config, topology: Topology) -> int:
    """Files of a checkpoint: DeepSpeed's, of each rank at stage 3 two, and the manifest."""
    ranks = topology.world_size
    return {0: 1, 1: ranks + 1, 2: ranks + 1, 3: 2 * ranks}[config.zero.stage] + 1
