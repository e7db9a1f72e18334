"""A moving average of the weights: after each step it goes a share of the way to what they are by then.

The average begins as the weights after the first step, then e ← d·e + (1 - d)·w. It is one more fp32 state of each
partition that an optimiser updates, beside its own, and so every checkpoint has it.
"""

from __future__ import annotations

from typing import Any

import torch

from launcher.checkpoint.states import AVERAGE


def keep_average(engine: Any, decay: float) -> None:
    """Have the engine's optimiser keep the average; a step that is skipped, as on an overflow, changes nothing."""

    @torch.no_grad()
    def follow(optimiser: torch.optim.Optimizer, arguments: Any, named: Any) -> None:
        for group in optimiser.param_groups:
            for partition in group["params"]:
                if partition.grad is None:
                    continue
                state = optimiser.state[partition]
                # Not before the step: an optimiser takes a state that holds anything for one that it has made itself.
                if AVERAGE in state:
                    state[AVERAGE].lerp_(partition, 1 - decay)
                else:
                    state[AVERAGE] = partition.detach().clone()

    engine.basic_optimizer.register_step_post_hook(follow)
