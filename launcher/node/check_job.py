"""The job that checks a cluster: ranks start as a run's do, meet, measure what is between them, and leave.

Owns the look from inside. What is expected of the answers is the business of whoever asked.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from launcher.cluster.outside import reachable, services
from launcher.config.cluster import Accelerator
from launcher.config.survival import HealthConfig
from launcher.decode import decode
from launcher.node import health
from launcher.node.local_dir import use_local_dir
from launcher.node.ranks import Ranks, export_for_torch, node_name, read_ranks
from launcher.publish import publish_json
from launcher.rundir import CheckDir

MEETING = timedelta(minutes=5)
GIB = 2**30
SIZES_MIB = {"cuda": (16, 256), "cpu": (1, 16)}
"""Of the all-reduces, fp32: a small one and one that fills the links."""


def main(folder: str) -> None:
    """One rank; rank 0 writes what all found."""
    os.umask(0o077)
    place = CheckDir(Path(folder))
    # It is no attempt of any run.
    os.environ.update(LAUNCHER_ATTEMPT="0", LAUNCHER_SUBMISSION="0")
    ranks = read_ranks()
    export_for_torch(ranks)
    use_local_dir()
    import torch.distributed as dist

    from launcher.train.bandwidth import bandwidth_gb_s
    from launcher.train.device import choose_device

    request = json.loads(place.request.read_text(encoding="utf-8"))
    device = choose_device(Accelerator(request["accelerator"]), ranks)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=MEETING)
    found: list[Any] = [None] * ranks.world_size
    mine = _look(place, ranks, decode(HealthConfig, request["health"]), device)
    dist.barrier()
    # All leave the barrier together, so what their clocks say now differs by what their clocks differ.
    mine["time"] = time.time()
    dist.all_gather_object(found, mine)
    sizes = SIZES_MIB[device.type]
    bandwidth = {str(mib): bandwidth_gb_s(device, ranks.world_size, mib << 18) for mib in sizes}
    if ranks.rank == 0:
        publish_json(place.results, {"backend": dist.get_backend(), "bandwidth_gb_s": bandwidth, "ranks": found})
    dist.barrier()
    sys.stdout.flush()
    # Without destructors: gloo's threads now and then abort a rank that has done all its work.
    os._exit(0)


def _look(place: CheckDir, ranks: Ranks, limits: HealthConfig, device: Any) -> dict[str, Any]:
    """What this rank sees of its node; what all ranks of a node would see alike, its first one tells."""
    import torch

    seen: dict[str, Any] = {"rank": ranks.rank, "node": node_name(), "host": socket.gethostname()}
    seen |= {"torch": torch.__version__, "python": sys.version.split()[0]}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        seen |= {"gpu": properties.name, "gpu_memory_gb": round(properties.total_memory / GIB, 1)}
    if ranks.local_rank == 0:
        seen["complaints"] = list(health.complaints(limits, place.root, gpus=device.type == "cuda"))
        seen["interfaces"] = [name for _, name in socket.if_nameindex() if name != "lo"]
    if ranks.rank == 0:
        seen["outside"] = {name: reachable(url, os.environ) for name, url in services(os.environ).items()}
    return seen
