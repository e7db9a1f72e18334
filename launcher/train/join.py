"""The ranks meet: process group, health of every node, and what the fabric between them carries.

Owns the check's collectives. At 512 ranks: one gather of short texts and four all-reduces of 16 MiB, a second or two.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import deepspeed
import torch
import torch.distributed as dist

from launcher.errors import LauncherError, Problem
from launcher.failures import FailureClass
from launcher.node import health
from launcher.node.ranks import Ranks, node_name
from launcher.rundir import RunDir
from launcher.runplan import RunPlan
from launcher.runs.events import Event, record
from launcher.train.bandwidth import PROBE_ELEMENTS, bandwidth_gb_s
from launcher.train.software import software

COLLECTIVE_TIMEOUT = timedelta(hours=2)
"""Longer than any phase: the watchdog, which knows the phases, is the one to end a rank that hangs."""


class UnhealthyError(LauncherError):
    """A node is not fit to train."""

    failure = FailureClass.node_failure

    def __init__(self, node: str, *problems: Problem) -> None:
        super().__init__(*problems)
        self.node = node


class SlowFabricError(LauncherError):
    """The ranks reach each other too slowly."""

    failure = FailureClass.communication


def join_all(plan: RunPlan, run: RunDir, ranks: Ranks, device: torch.device) -> None:
    """Form the process group; collective. UnhealthyError, on every rank, names the first node that is not fit."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    deepspeed.init_distributed(dist_backend=backend, timeout=COLLECTIVE_TIMEOUT, verbose=False)
    if not plan.config.health.enabled:
        return
    began = time.monotonic()
    found: list[Any] = [None] * ranks.world_size
    dist.all_gather_object(found, _look(plan, run, ranks, device))
    _require_fit(run, ranks, found)
    bandwidth = bandwidth_gb_s(device, ranks.world_size, PROBE_ELEMENTS)
    least = plan.config.health.min_bandwidth_gb_s
    if ranks.rank == 0:
        nodes = len({node for node, _, _ in found})
        seconds = round(time.monotonic() - began, 2)
        record(run, Event.health, ranks.attempt, nodes=nodes, seconds=seconds, bandwidth_gb_s=bandwidth)
    if least is not None and bandwidth is not None and bandwidth < least:
        message = f"all-reduce moves {bandwidth:.2f} GB/s, less than health.min_bandwidth_gb_s={least:g}"
        raise SlowFabricError(Problem(where="the fabric between the nodes", message=message))


def _look(plan: RunPlan, run: RunDir, ranks: Ranks, device: torch.device) -> tuple[str, list[str], dict[str, str]]:
    """Node, what is wrong with it, and its library versions."""
    wrong: list[str] = []
    if ranks.local_rank == 0:
        gpus = device.type == "cuda"
        wrong += health.complaints(plan.config.health, run.attempt(ranks.attempt).root, gpus=gpus)
    if device.type == "cuda":
        wrong += _device_complaints(device)
    return node_name(), wrong, software()


def _device_complaints(device: torch.device) -> list[str]:
    try:
        ones = torch.ones(256, 256, device=device)
        correct = float((ones @ ones).sum()) == 256.0**3
    except RuntimeError as error:
        return [f"GPU {device.index} does not compute: {str(error).splitlines()[0]}"]
    return [] if correct else [f"GPU {device.index} computes wrongly"]


def _require_fit(run: RunDir, ranks: Ranks, found: list[tuple[str, list[str], dict[str, str]]]) -> None:
    """The same error on every rank, if a node has a complaint or other libraries than rank 0's."""
    expected = found[0][2]
    unfit: dict[str, list[str]] = {}
    for node, wrong, versions in found:
        others = [f"{name} {versions[name]} instead of {expected[name]}" for name in expected if versions != expected]
        if wrong or others:
            unfit.setdefault(node, []).extend([*wrong, *others])
    if not unfit:
        return
    if ranks.rank == 0:
        for node, reasons in unfit.items():
            record(run, Event.unhealthy, ranks.attempt, node=node, reason="; ".join(dict.fromkeys(reasons)))
    problems = [
        Problem(where=f"node {node}", message="; ".join(dict.fromkeys(reasons))) for node, reasons in unfit.items()
    ]
    raise UnhealthyError(next(iter(unfit)), *problems)
