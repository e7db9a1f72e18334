"""Who this process is among all ranks, from Slurm's variables or the local job's.

Owns the reading of those variables and their translation into torch's.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

LOCAL_PREFIX = "LAUNCHER_"
"""The local job names its ranks itself: it may run inside somebody's Slurm allocation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranks:
    """One rank's place."""

    rank: int
    """Global rank, from 0."""
    world_size: int
    """All ranks."""
    local_rank: int
    """Rank on its node; the index of its GPU."""
    local_world_size: int
    """Ranks on its node."""
    attempt: int
    """Number of the attempt that this process belongs to."""
    submission: int
    """Submission of the job that carries it."""


def local_variables(local_rank: int, ranks: int) -> dict[str, str]:
    """Variables that make a process rank `local_rank` of `ranks` on this machine."""
    return {f"{LOCAL_PREFIX}RANK": str(local_rank), f"{LOCAL_PREFIX}WORLD_SIZE": str(ranks)}


def read_ranks() -> Ranks:
    """This process's place; KeyError outside a job of ours."""
    attempt, submission = int(os.environ["LAUNCHER_ATTEMPT"]), int(os.environ["LAUNCHER_SUBMISSION"])
    if f"{LOCAL_PREFIX}RANK" in os.environ:
        rank, world_size = int(os.environ[f"{LOCAL_PREFIX}RANK"]), int(os.environ[f"{LOCAL_PREFIX}WORLD_SIZE"])
        return Ranks(
            rank=rank,
            world_size=world_size,
            local_rank=rank,
            local_world_size=world_size,
            attempt=attempt,
            submission=submission,
        )
    world_size = int(os.environ["SLURM_NTASKS"])
    return Ranks(
        rank=int(os.environ["SLURM_PROCID"]),
        world_size=world_size,
        local_rank=int(os.environ["SLURM_LOCALID"]),
        local_world_size=world_size // int(os.environ["SLURM_JOB_NUM_NODES"]),
        attempt=attempt,
        submission=submission,
    )


def export_for_torch(ranks: Ranks) -> None:
    """Set the variables that torch.distributed and DeepSpeed read; MASTER_ADDR and MASTER_PORT are there already.

    And the allocator's, which is a user's to set: with segments that grow, what was freed serves the next size too.
    Without them a GPU had reserved up to half as much again as was ever in use.
    """
    if not {"PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"} & os.environ.keys():
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    os.environ.update(
        RANK=str(ranks.rank),
        WORLD_SIZE=str(ranks.world_size),
        LOCAL_RANK=str(ranks.local_rank),
        LOCAL_WORLD_SIZE=str(ranks.local_world_size),
    )


def slurm_job_id() -> str:
    """This job as Slurm's commands name it: of an array `ARRAY_TASK`, as every task has a number of its own beside."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]


def node_name() -> str:
    """This node as the cluster calls it, which need not be its host name."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()
