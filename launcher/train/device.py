"""What this rank computes on, decided once, before DeepSpeed is imported."""

from __future__ import annotations

import os

import torch

from launcher.config.schema import Accelerator
from launcher.errors import Problem, UserError
from launcher.node.ranks import Ranks


def choose_device(accelerator: Accelerator, ranks: Ranks) -> torch.device:
    """The rank's device. UserError when CUDA is asked for and this node has too little of it."""
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    enough = devices > ranks.local_rank
    if accelerator is Accelerator.cuda and not enough:
        raise UserError(
            Problem(
                where="cluster.accelerator",
                message=f"rank {ranks.rank} needs GPU {ranks.local_rank} of its node, and torch sees {devices}",
                remedy="check the GPU request and `nvidia-smi` on the node, or write cluster.accelerator=cpu",
            )
        )
    # With `auto`, all ranks of a node take GPUs or none does.
    if accelerator is not Accelerator.cpu and devices >= ranks.local_world_size:
        torch.cuda.set_device(ranks.local_rank)
        return torch.device("cuda", ranks.local_rank)
    os.environ["DS_ACCELERATOR"] = "cpu"
    torch.set_num_threads(cpu_threads(ranks.local_world_size))
    return torch.device("cpu")


def cpu_threads(local_world_size: int) -> int:
    """Threads per rank that share this node's cores without waiting for each other."""
    task = os.environ.get("SLURM_CPUS_PER_TASK")
    cores = len(os.sched_getaffinity(0))
    return max(1, min(int(task), cores) if task else cores // local_world_size)
