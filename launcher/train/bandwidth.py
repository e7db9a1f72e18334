"""What the fabric between ranks carries. Collective; knows torch and nothing of runs."""

from __future__ import annotations

import time

import torch
import torch.distributed as dist

PROBE_ELEMENTS = 1 << 22
"""16 MiB of fp32: large enough to fill links, small enough to cost nothing."""
PROBES = 3


def bandwidth_gb_s(device: torch.device, world_size: int, elements: int) -> float | None:
    """Bus bandwidth of an all-reduce, as NCCL's tests define it: 2·(n−1)/n × bytes ÷ time. None for a single rank."""
    if world_size == 1:
        return None
    data = torch.zeros(elements, device=device)
    times = []
    for _ in range(1 + PROBES):
        dist.barrier()
        began = time.perf_counter()
        dist.all_reduce(data)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - began)
    # The first one connects; the slowest rank's time is everybody's.
    slowest = torch.tensor(min(times[1:]), dtype=torch.float64, device=device)
    dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
    return round(2 * (world_size - 1) / world_size * data.nbytes / float(slowest) / 1e9, 3)
