"""What is likely to go wrong with a run that can be planned: told before it is queued, refused with `--strict`. Pure.

A rule is a small function that yields what it finds; `RULES` names them all. What the config alone tells is in
`launcher.config.doubts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from launcher.config.cluster import ClusterKind
from launcher.config.doubts import doubts
from launcher.config.schema import Config
from launcher.config.survival import Action
from launcher.errors import Problem
from launcher.expected import Expected
from launcher.plan.host import host_gb, too_little
from launcher.plan.lead import too_short
from launcher.plan.memory import MARGIN, fits
from launcher.plan.prepared import Prepared
from launcher.plan.room import Room
from launcher.plan.whole import save_every
from launcher.runplan import Lead, Memory, Topology


@dataclass(frozen=True, kw_only=True, slots=True)
class Looked:
    """What the rules look at."""

    config: Config
    """The resolved config."""
    topology: Topology
    """Ranks."""
    memory: Memory
    """Of a GPU."""
    lead: Lead
    """When the job is told to stop."""
    expected: Expected
    """Time and disk."""
    data: Prepared | None
    """Tokenised training data; None where there is none that is known."""
    room: Room | None
    """Where the run will lie; None where that cannot be told."""

    @property
    def queued(self) -> bool:
        """Whether a job carries it, which has an end."""
        return self.config.cluster.kind is ClusterKind.slurm


def warnings(looked: Looked) -> list[Problem]:
    """All that the rules find, those of the config alone among it."""
    return [*doubts(looked.config), *(found for rule in RULES for found in rule(looked))]


def _gpu_memory(looked: Looked) -> Iterator[Problem]:
    memory = looked.memory
    if not fits(memory):
        yield Problem(
            where="memory",
            message=f"{memory.total_gb:.1f} GiB a GPU, of which {MARGIN * memory.available_gb:.1f} may be filled: "
            "it is likely to run out of memory",
            remedy="in the order in which it costs speed: a smaller train.micro_batch_size, "
            "model.activation_checkpointing=true, zero=zero3, more GPUs, a shorter data.seq_len, zero=zero3_offload",
        )


def _host_memory(looked: Looked) -> Iterator[Problem]:
    config, memory, nodes = looked.config, looked.memory, looked.topology.nodes
    if too_little(config, memory, nodes):
        key = "mem_gb_per_node" if config.cluster.mem_gb_per_gpu is None else "mem_gb_per_gpu"
        yield Problem(
            where=f"cluster.{key}",
            message=f"{config.cluster.node_memory_gb} GB of host memory are asked for, and a node holds "
            f"{host_gb(config, memory, nodes):,.1f} beside the processes' own",
            remedy="ask for more, take more nodes, or write checkpoint.asynchronous=false, with which training waits "
            "for the disk",
        )


def _signal_lead(looked: Looked) -> Iterator[Problem]:
    lead, limit_min = looked.lead, looked.config.cluster.time_min
    if looked.queued and too_short(lead):
        yield Problem(
            where="cluster.signal_lead_s",
            message=f"told to stop {lead.seconds} s before its limit of {limit_min} min, the job may be ended before "
            f"its checkpoint is written, for which {lead.needed} s are needed",
            remedy=f"write cluster.signal_lead_s={lead.needed}, or a longer cluster.time_min with signal_lead_s=auto",
        )


def _time_limit(looked: Looked) -> Iterator[Problem]:
    expected, limit_min = looked.expected, looked.config.cluster.time_min
    if not looked.queued or expected.hours is None or 60 * expected.hours <= limit_min:
        return
    goes_on = looked.config.retry.time_limit is not Action.stop
    if not goes_on:
        then = "and retry.time_limit=stop ends it there"
    elif expected.jobs is None:
        then = "and no job of that length gets to a step and a checkpoint"
    else:
        then = f"so it takes {expected.jobs} jobs, each of which waits in the queue"
    yield Problem(
        where="cluster.time_min",
        message=f"the run takes {expected.hours:,.1f} hours, and the limit is {limit_min / 60:,.1f}, {then}",
        remedy=f"write cluster.time_min={_whole_hours_min(expected.hours)} if the partition allows it, or more nodes",
    )


def _whole_hours_min(hours: float) -> int:
    """A tenth more than that, in whole hours."""
    return 60 * (int(1.1 * hours) + 1)


def _between_checkpoints(looked: Looked) -> Iterator[Problem]:
    config, pace = looked.config, looked.expected.pace
    every = save_every(config, looked.expected.steps)
    if not looked.queued or every is None or pace.step_s is None:
        return
    limit_s = 60 * config.cluster.time_min
    if every * pace.step_s > limit_s:
        best = looked.expected.best_every or max(1, int(limit_s / pace.step_s / 4))
        yield Problem(
            where="checkpoint.every_steps",
            message=f"{every:,} steps take {every * pace.step_s / 3600:,.1f} hours, longer than a job "
            f"({limit_s / 3600:,.1f}): whatever fails takes all of a job's work with it",
            remedy=f"write checkpoint.every_steps={best}",
        )


def _watchdog(looked: Looked) -> Iterator[Problem]:
    config, pace = looked.config, looked.expected.pace
    phases = [("step_s", pace.step_s, "a step"), ("save_s", pace.stall_s, "a checkpoint that training waits for")]
    for name, expected_s, what in phases:
        limit_s = getattr(config.watchdog, name)
        if limit_s is not None and expected_s is not None and expected_s > limit_s:
            yield Problem(
                where=f"watchdog.{name}",
                message=f"{what} is expected to take {expected_s:,.0f} s, and ranks that take {limit_s} s are ended",
                remedy=f"write watchdog.{name}={10 * round(expected_s)}",
            )


def _epoch(looked: Looked) -> Iterator[Problem]:
    data, size = looked.data, looked.config.train.global_batch_size
    if data is not None and size > data.epoch_size:
        yield Problem(
            where="train.global_batch_size",
            message=f"a step takes {size} samples, and the training data has {data.epoch_size}",
            remedy="write a smaller train.global_batch_size, or train on more rows",
        )


def _unprepared(looked: Looked) -> Iterator[Problem]:
    if looked.queued and looked.data is None and not looked.config.cluster.data_job.enabled:
        yield Problem(
            where="cluster.data_job.enabled",
            message=f"the data is not tokenised yet, and {looked.topology.world_size} GPUs will wait until it is",
            remedy="run `launcher data prepare` first, or write cluster.data_job.enabled=true",
        )


def _disk(looked: Looked) -> Iterator[Problem]:
    room, disk, keep = looked.room, looked.expected.disk, looked.config.checkpoint.keep_last
    if room is None:
        return
    # Of a run that keeps ever more, at least what it will have before long.
    most = disk.most if disk.most is not None else (keep or 1) + 1
    less = "free some, name another runs_root, or keep fewer (checkpoint.keep_last)"
    if most * disk.checkpoint_gb > room.free_gb:
        yield Problem(
            where="runs_root",
            message=f"checkpoints will take {most} × {disk.checkpoint_gb:,.1f} GB, and {room.free_gb:,.1f} GB are free",
            remedy=less,
        )
    if room.free_files is not None and most * disk.files > room.free_files:
        yield Problem(
            where="runs_root",
            message=f"checkpoints will take {most} × {disk.files:,} files, and {room.free_files:,} inodes are free",
            remedy=less,
        )


RULES = (
    _gpu_memory,
    _host_memory,
    _signal_lead,
    _time_limit,
    _between_checkpoints,
    _watchdog,
    _epoch,
    _unprepared,
    _disk,
)
