"""What earlier runs of the same shape and layout took of a GPU, as their own metrics tell. Reads a few files of a few
runs.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.config.schema import Config
from launcher.plain import plain
from launcher.plan.earlier import newest
from launcher.remember import remembered
from launcher.rundir import RunDir
from launcher.runplan import Batch, Memory, Topology
from launcher.runs.records import tail

SAME = {
    "model": ("attention", "activation_checkpointing"),
    "data": ("seq_len", "packing"),
    "optim": ("name", "pull_to_start", "ema_decay"),
    "objective": ("name", "options"),
    "cluster": ("gpu_type", "gpu_memory_gb", "accelerator"),
    "adapter": (),
    "zero": (),
    "precision": (),
    "deepspeed": (),
}
"""Keys of the config that decide what a GPU holds; all of a group where none is named."""


def with_measured(config: Config, topology: Topology, batch: Batch, memory: Memory) -> Memory:
    """A plan's memory, with what the newest run that is like it has measured."""
    now = {"config": config, "topology": topology, "batch": batch, "memory": memory}
    wanted = _likeness({name: plain(value) for name, value in now.items()})
    for run in newest(Path(config.runs_root)):
        peak = _peak(run) if _likeness_of(run) == wanted else None
        if peak is not None:
            return replace(memory, measured_gb=peak, measured_by=run.root.name)
    return memory


@remembered
def _likeness_of(run: RunDir) -> dict[str, Any] | None:
    """That of a stored plan; None of another version's, or of a damaged one: whoever asks for that run is told."""
    try:
        return _likeness(json.loads(run.plan.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


@remembered
def _peak(run: RunDir) -> float | None:
    """What a GPU of the run held when it held most, GiB."""
    return max((float(one["memory_gb"]) for one in tail(run.metrics) if one.get("memory_gb")), default=None)


def _likeness(document: dict[str, Any]) -> dict[str, Any]:
    """What two plans have in common if their GPUs hold the same."""
    config, memory, batch = document["config"], document["memory"], document["batch"]
    groups = {
        group: {name: config[group][name] for name in names} if names else config[group]
        for group, names in SAME.items()
    }
    accumulates = batch["accumulation"] > 1
    sizes = [memory["parameters"], memory["trained"], memory["active"], batch["micro_batch_size"], accumulates]
    return {**groups, "sizes": sizes, "topology": document["topology"]}
