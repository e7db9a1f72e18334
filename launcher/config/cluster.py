"""The types of the config keys that say where a run's ranks run. Values live in `conf/`, like those of `schema`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class ClusterKind(Enum):
    """How ranks are started."""

    local = "local"
    slurm = "slurm"


class Accelerator(Enum):
    """What the ranks compute on; `auto` takes CUDA when each rank has a device of its own, else the CPU."""

    auto = "auto"
    cuda = "cuda"
    cpu = "cpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataJobConfig:
    """The job without GPUs that tokenises before training, where that has not been done yet."""

    enabled: bool
    """Whether there is one; else the training job tokenises while its GPUs wait."""
    partition: str | None
    """Slurm partition; null is that of training."""
    cpus: int
    """CPU cores, and processes that tokenise."""
    mem_gb: int
    """Host memory, GB."""
    time_min: int
    """Time limit, minutes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalJobConfig:
    """The job of `launcher eval`: one process on one node."""

    partition: str | None
    """Slurm partition; null is that of training."""
    gpus: int
    """GPUs that the model is spread over."""
    cpus: int
    """CPU cores."""
    mem_gb: int | None
    """Host memory, GB; null leaves it to Slurm."""
    time_min: int
    """Time limit, minutes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """Where the ranks run; one profile a cluster."""

    kind: ClusterKind
    """How ranks are started."""
    nodes: int
    """Machines."""
    gpus_per_node: int
    """Ranks per machine, one GPU each."""
    accelerator: Accelerator
    """What a rank computes on."""
    gpu_memory_gb: float
    """Memory of one GPU, GiB; what the plan must fit in."""
    gpu_type: str | None
    """GPU type in gres requests (`h100`); null asks for any."""
    cpus_per_gpu: int | None
    """CPU cores per rank; null leaves it to Slurm."""
    mem_gb_per_node: int | None
    """Host memory per node, GB; null leaves it to Slurm; 0 takes all of it."""
    partition: str | None
    """Slurm partition."""
    account: str | None
    """Slurm account."""
    qos: str | None
    """Slurm quality of service."""
    constraint: str | None
    """Node features."""
    reservation: str | None
    """Slurm reservation."""
    exclude: str | None
    """Nodes to avoid, in Slurm's notation."""
    exclusive: bool
    """Take whole nodes."""
    time_min: int
    """Time limit, minutes."""
    signal_lead_s: Any
    """Seconds before the time limit at which the job is told to stop; `auto` plans for a step and a checkpoint."""
    environment: dict[str, str]
    """Variables set for the ranks (NCCL_SOCKET_IFNAME and its like)."""
    data_job: DataJobConfig
    """The job that tokenises."""
    eval_job: EvalJobConfig
    """The job that runs benchmarks."""
