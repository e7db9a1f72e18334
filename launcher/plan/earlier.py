"""How long the steps and checkpoints took of an earlier run like the one that is planned."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median

from launcher.config.schema import Config
from launcher.plan.alike import LAYOUT, alike, measures
from launcher.remember import remembered
from launcher.rundir import RunDir
from launcher.runplan import Batch, Memory, Topology
from launcher.runs.events import Event
from launcher.runs.records import is_step, tail

LEAST_STEPS = 5
"""Fewer say little: the first are slow."""
SAME = (
    *LAYOUT,
    *("memory.parameters", "memory.trained", "topology"),
    *(f"batch.{one.name}" for one in fields(Batch) if one.name != "chosen"),
    *(f"config.model.{name}" for name in ("attention", "activation_checkpointing")),
    *(f"config.data.{name}" for name in ("seq_len", "packing")),
    *(f"config.cluster.{name}" for name in ("kind", "accelerator", "gpu_memory_gb", "gpu_type")),
    *("config.adapter.kind", "config.objective.name", "config.precision", "config.train.deterministic"),
)
"""What decides how long a step takes, but for the lengths of rows."""
PLACES = ("config.cluster.partition", "config.cluster.constraint")
"""Where GPUs have no name, those of another place may be others."""


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
    keys = SAME if config.cluster.gpu_type is not None else (*SAME, *PLACES)
    return next((found for run in alike(Path(config.runs_root), now, keys) if (found := _measured(run))), None)


@remembered
def _measured(run: RunDir) -> Earlier | None:
    steps = [record for record in measures(run) if is_step(record) and record.get("tokens_per_s")]
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
