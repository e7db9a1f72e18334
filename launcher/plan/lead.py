"""How long before the time limit a job must be told to stop: the step under way, and a checkpoint. Pure."""

from __future__ import annotations

import math

from launcher.config.cluster import ClusterConfig
from launcher.config.optimisers import state_bytes
from launcher.config.ranges import AUTO
from launcher.config.schema import Config, Dtype
from launcher.runplan import Lead, Measured, Memory, Topology

NODE_BYTES_PER_S = 0.5e9
"""Assumed rate at which a node writes to a shared file system while every other node does."""
STEP_S = 30.0
"""Assumed length of a step that was never measured."""
SLACK_S = 60.0
"""Slurm looks at time limits twice a minute, and the ranks have to agree and leave."""
LONGEST_SHARE = 0.5
"""Share of the time limit that the lead may take."""


def plan_lead(
    config: Config, memory: Memory, topology: Topology, measured: Measured | None, expected_s: float | None = None
) -> Lead:
    """The lead that is set, or one long enough for a step and a checkpoint with everything taken twice.

    A step that was not measured is taken for as long as is `expected_s`, or usual.
    """
    step_s = max(STEP_S, expected_s or 0) if measured is None else measured.step_s
    save_s = assumed_save_s(config, memory, topology.nodes) if measured is None else measured.save_s
    needed = math.ceil(SLACK_S + 2 * (step_s + save_s))
    typed = config.cluster.signal_lead_s
    return Lead(
        seconds=auto_seconds(config.cluster, needed) if typed == AUTO else int(typed),
        needed=needed,
        step_s=round(step_s, 1),
        save_s=round(save_s, 1),
        measured=measured is not None,
    )


def auto_seconds(cluster: ClusterConfig, needed: int) -> int:
    """What is needed, in whole minutes, and at most a share of the time limit."""
    return max(1, min(60 * math.ceil(needed / 60), int(LONGEST_SHARE * 60 * cluster.time_min)))


def assumed_save_s(config: Config, memory: Memory, nodes: int) -> float:
    """Seconds from a checkpoint's beginning to its commit, at that rate."""
    return checkpoint_bytes(config, memory) / nodes / NODE_BYTES_PER_S


def checkpoint_bytes(config: Config, memory: Memory) -> float:
    """Size of a checkpoint: trained weights in fp32, their states, and the compute weights where they are others."""
    per_parameter = state_bytes(config.optim) + (4 if config.precision.dtype is Dtype.fp32 else 6)
    return float(per_parameter * memory.trained)


def too_short(lead: Lead) -> bool:
    """Whether the job may be ended before its checkpoint is written."""
    return lead.seconds < lead.needed
