"""Learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from launcher.config.schema import ScheduleConfig, ScheduleName


def learning_rate(schedule: ScheduleConfig, peak: float, step: int, total_steps: int) -> float:
    """The rate of optimiser step `step` (from 0) of `total_steps`.

    Linear warm-up reaches the peak at its last step; after it, cosine (Loshchilov & Hutter, arXiv:1608.03983), linear,
    constant, or warm-up–stable–decay (Hu et al., arXiv:2404.06395) with a linear decay, ends at `min_ratio` × peak.
    """
    warmup = round(schedule.warmup_ratio * total_steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - 1 - warmup)
    floor = schedule.min_ratio
    if schedule.name is ScheduleName.cosine:
        share = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    elif schedule.name is ScheduleName.linear:
        share = 1 - min(1.0, done)
    elif schedule.name is ScheduleName.wsd:
        decay = max(1, round(schedule.decay_ratio * total_steps))
        share = min(1.0, (total_steps - 1 - step) / decay) if schedule.decay_ratio else 1.0
    else:
        return peak
    return peak * (floor + (1 - floor) * share)
