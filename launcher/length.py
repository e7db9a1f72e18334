"""How long a run is, in optimiser steps. Counted in one place, for the plan and for the ranks."""

from __future__ import annotations

import math

from launcher.config.schema import Config
from launcher.objectives.registry import objective_of


def step_count(config: Config, epoch_size: int) -> int:
    """Optimiser steps of the run; from epochs of so many samples, the last ones may reach into the next epoch."""
    train = config.train
    if train.max_steps is not None:
        return train.max_steps
    assert train.epochs is not None
    needs = objective_of(config).needs
    samples = train.global_batch_size // needs.answers * needs.unit
    return needs.unit * max(1, math.ceil(train.epochs * epoch_size / samples))
