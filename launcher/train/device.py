"""What this rank computes on, decided once, before DeepSpeed is imported."""

from __future__ import annotations

import os

import torch

from launcher.config.cluster import Accelerator
from launcher.errors import Problem, UserError
from launcher.node.ranks import Ranks


def choose_device(accelerator: Accelerator, ranks: Ranks) -> torch.device:
    """The rank's device. UserError when CUDA is asked for and this node has too little of it."""
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    # Where the cluster binds one GPU to each task, that one is all a rank sees.
    index = 0 if devices == 1 and accelerator is Accelerator.cuda else ranks.local_rank
    if accelerator is Accelerator.cuda and devices <= index:
        raise UserError(
            Problem(
                where="cluster.accelerator",
                message=f"rank {ranks.rank} needs GPU {ranks.local_rank} of its node, and torch sees {devices}",
                remedy="check the GPU request and `nvidia-smi` on the node, or write cluster.accelerator=cpu",
            )
        )
    torch.set_num_threads(cpu_threads(ranks.local_world_size))
    # With `auto`, all ranks of a node take GPUs or none does.
    if accelerator is Accelerator.cuda or (accelerator is Accelerator.auto and devices >= ranks.local_world_size):
        torch.cuda.set_device(index)
        return torch.device("cuda", index)
    os.environ["DS_ACCELERATOR"] = "cpu"
    return torch.device("cpu")


def cpu_threads(local_world_size: int) -> int:
    """Threads per rank that share this node's cores without waiting for each other."""
    task = os.environ.get("SLURM_CPUS_PER_TASK")
    cores = len(os.sched_getaffinity(0))
    return max(1, min(int(task), cores) if task else cores // local_world_size)
