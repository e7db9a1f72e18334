"""What an earlier run like the one that is planned was measured to take. Reads a few files of a few runs."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from launcher.config.schema import Config
from launcher.plain import plain
from launcher.remember import remembered
from launcher.rundir import RunDir
from launcher.runplan import Batch, Memory, Topology
from launcher.runs.events import Event
from launcher.runs.records import is_step, tail

LOOKED_AT = 20
"""Runs, the newest first: what is planned now is mostly what ran last."""
LEAST_STEPS = 5
"""Fewer say little: the first are slow."""
STAMP = re.compile(r"-(\d{8}-\d{6}-[0-9a-f]{4})$")
"""How a run's name ends: when it was planned."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """Medians over the last steps, and the last checkpoints, of a run."""

    run_id: str
    """Its name."""
    step_s: float
    """A step, seconds."""
    tokens_per_s: float
    """Tokens a second over all GPUs."""
    mfu: float | None
    """Model FLOPs utilisation; None where no peak is known."""
    save_s: float | None
    """A checkpoint until its commit, seconds; None if it wrote none."""
    stall_s: float | None
    """Of those, training waited."""


def earlier(config: Config, topology: Topology, batch: Batch, memory: Memory) -> Earlier | None:
    """The newest run in the runs root with the same model, layout, GPUs and batch that has measured its steps."""
    now = {"config": config, "topology": topology, "batch": batch, "memory": memory}
    wanted = _kind({name: plain(value) for name, value in now.items()})
    for run in newest(Path(config.runs_root)):
        if _kind_of(run) == wanted and (found := _measured(run)) is not None:
            return found
    return None


@remembered
def newest(root: Path) -> list[RunDir]:
    """The runs that are looked at, the newest first."""
    try:
        names = [name for name in os.listdir(root) if STAMP.search(name)]
    except OSError:
        return []
    return [RunDir(root / name) for name in sorted(names, key=lambda name: name[-20:], reverse=True)[:LOOKED_AT]]


@remembered
def _kind_of(run: RunDir) -> dict[str, Any] | None:
    """That of a stored plan, of whatever version; None where it says too little."""
    try:
        return _kind(json.loads(run.plan.read_text(encoding="utf-8")))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _kind(plan: dict[str, Any]) -> dict[str, Any]:
    """What decides how long a step takes, but for the lengths of rows."""
    config = plan["config"]
    cluster, model, zero = config["cluster"], config["model"], config["zero"]
    # Where GPUs have no name, those of another partition may be others.
    places = ("gpu_type",) if cluster["gpu_type"] is not None else ("partition", "constraint")
    return {
        "parameters": [plan["memory"][name] for name in ("parameters", "trained")],
        "model": [model[name] for name in ("attention", "activation_checkpointing")],
        "adapter": config["adapter"]["kind"],
        "objective": config["objective"]["name"],
        "zero": {name: value for name, value in zero.items() if name != "auto"},
        "others": [config["precision"], config["data"]["seq_len"], config["data"]["packing"]],
        "deterministic": config["train"]["deterministic"],
        "cluster": [cluster[name] for name in ("kind", "accelerator", "gpu_memory_gb", *places)],
        "topology": plan["topology"],
        "batch": {name: value for name, value in plan["batch"].items() if name != "chosen"},
    }


@remembered
def _measured(run: RunDir) -> Earlier | None:
    steps = [record for record in tail(run.metrics) if is_step(record) and record.get("tokens_per_s")]
    if len(steps) < LEAST_STEPS:
        return None
    events = [event for event in tail(run.events) if event.get("event") == Event.checkpoint.value]
    saves = [event for event in events if "seconds" in event]
    used = [float(step["mfu"]) for step in steps if step.get("mfu") is not None]
    return Earlier(
        run_id=run.root.name,
        step_s=median(float(step["step_time_s"]) for step in steps),
        tokens_per_s=median(float(step["tokens_per_s"]) for step in steps),
        mfu=median(used) if used else None,
        save_s=median(float(save["seconds"]) for save in saves) if saves else None,
        stall_s=median(float(save.get("stalled_s", save["seconds"])) for save in saves) if saves else None,
    )
