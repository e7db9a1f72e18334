"""L2-SP: every trained parameter is pulled towards its value at the start (Li et al., arXiv:1802.01483).

Decoupled from the gradient, as AdamW's decay is: before an update, w -= lr · strength · (w - start). Each rank keeps
the start of the partition that it updates, in that one's precision, as the engine was built with it: always that of
the untrained model, whatever is loaded afterwards. So nothing of it is in a checkpoint, and any number of ranks can go
on from one.
"""

from __future__ import annotations

from typing import Any

import torch


def pull_to_start(engine: Any, strength: float) -> None:
    """Have the engine's optimiser pull; to be called before a checkpoint is loaded."""
    starts = {id(partition): partition.detach().clone() for partition in _partitions(engine)}

    @torch.no_grad()
    def pull(optimiser: torch.optim.Optimizer, arguments: Any, named: Any) -> None:
        for group in optimiser.param_groups:
            for partition in group["params"]:
                if partition.grad is not None:
                    partition.lerp_(starts[id(partition)], strength * group["lr"])

    engine.basic_optimizer.register_step_pre_hook(pull)


def _partitions(engine: Any) -> list[torch.Tensor]:
    """What this rank's optimiser updates; the tensors stay the same ones as long as the engine lives."""
    if engine.zero_optimization_stage() == 3:
        # Groups list a partition only while it is updated.
        partitions: list[torch.Tensor] = engine.optimizer.fp32_partitioned_groups_flat
        return partitions
    return [partition for group in engine.basic_optimizer.param_groups for partition in group["params"]]
