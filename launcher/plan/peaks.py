"""What earlier runs of the same shape and layout took of a GPU, as their own metrics tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from launcher.config.schema import Config, ShapeConfig
from launcher.plan.alike import LAYOUT, alike, measures, said
from launcher.plan.memory import plan_memory
from launcher.remember import remembered
from launcher.rundir import RunDir
from launcher.runplan import Memory, Topology

SAME = (
    *(f"config.model.{name}" for name in ("attention", "activation_checkpointing")),
    *(f"config.data.{name}" for name in ("seq_len", "packing")),
    *(f"config.optim.{name}" for name in ("name", "pull_to_start", "ema_decay")),
    *(f"config.objective.{name}" for name in ("name", "options")),
    *(f"config.cluster.{name}" for name in ("gpu_type", "gpu_memory_gb", "accelerator")),
    *("config.adapter", "config.precision", "config.deepspeed"),
)
"""What decides what a GPU holds, beside its layout and its share of the batch."""
CASE = (
    *LAYOUT,
    *("topology.nodes", "topology.ranks_per_node"),
    *("memory.parameters", "memory.trained", "memory.active", "batch.micro_batch_size"),
)
"""That layout and share, but for whether gradients are accumulated."""
Case = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Peaks:
    """What runs like the one that is planned held, whatever their layouts and batches."""

    found: Mapping[Case, tuple[float, str]] = field(default_factory=dict)
    """GiB at most of a GPU of the newest run of each case, and its id."""

    def calibrated(
        self, config: Config, topology: Topology, micro_batch: int, accumulation: int, memory: Memory
    ) -> Memory:
        """An estimate, with what was measured of the same case."""
        if not self.found:
            return memory
        layout = (getattr(config.zero, key.rpartition(".")[2]) for key in LAYOUT)
        sizes = (topology.nodes, topology.ranks_per_node, memory.parameters, memory.trained, memory.active, micro_batch)
        known = self.found.get((*layout, *sizes, accumulation > 1))
        return memory if known is None else replace(memory, measured_gb=known[0], measured_by=known[1])


def memory_of(
    config: Config, shape: ShapeConfig, topology: Topology, micro_batch: int, frozen: int, peaks: Peaks
) -> Memory:
    """What a GPU holds with so many sequences at a time: the estimate, with what was measured of the same case."""
    accumulation = config.train.global_batch_size // (micro_batch * topology.world_size)
    memory = plan_memory(config, shape, topology.world_size, micro_batch, frozen, accumulation)
    return peaks.calibrated(config, topology, micro_batch, accumulation, memory)


def earlier_peaks(config: Config) -> Peaks:
    """Those of runs in the config's runs root. Reads the plans and the last metrics of a few."""
    found: dict[Case, tuple[float, str]] = {}
    for run in alike(Path(config.runs_root), {"config": config}, SAME):
        case = _case(run)
        peak = None if case is None or case in found else _peak(run)
        if case is not None and peak is not None:
            found[case] = peak, run.root.name
    return Peaks(found=found)


@remembered
def _case(run: RunDir) -> Case | None:
    """That of a run's plan; None where it says too little, or what no plan says."""
    case, accumulation = said(run, CASE), said(run, ("batch.accumulation",))
    if case is None or accumulation is None or not all(isinstance(value, int) for value in (*case, *accumulation)):
        return None
    return (*case, accumulation[0] > 1)


def _peak(run: RunDir) -> float | None:
    """What a GPU of the run held when it held most, GiB."""
    return max((float(one["memory_gb"]) for one in measures(run) if one.get("memory_gb")), default=None)
