"""Lion (Chen et al., Symbolic Discovery of Optimization Algorithms, arXiv:2302.06675, algorithm 2)."""

from __future__ import annotations

from typing import Any

import torch

from launcher.train.moments import one_moment

CHUNK = 1 << 26
"""Elements at a time: the direction of a flat part of a large model would else take as much room as its momentum."""


class Lion(torch.optim.Optimizer):
    """θ ← θ - lr · (sign(β1·m + (1 - β1)·g) + decay · θ), then m ← β2·m + (1 - β2)·g."""

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    one_moment(state, parameter)
                    _update(parameter, parameter.grad, state["exp_avg"], group)
                    state["step"] += 1


def _update(parameter: torch.Tensor, gradient: torch.Tensor, momentum: torch.Tensor, group: dict[str, Any]) -> None:
    lr, (beta1, beta2) = group["lr"], group["betas"]
    # Views of what is changed: a copy would be changed in its place.
    flat = parameter.view(-1), gradient.reshape(-1), momentum.view(-1)
    parts = (torch.split(tensor, CHUNK) for tensor in flat)
    for value, slope, mean in zip(*parts, strict=True):
        direction = mean.lerp(slope, 1 - beta1).sign_()
        value.mul_(1 - lr * group["weight_decay"]).add_(direction, alpha=-lr)
        mean.lerp_(slope, 1 - beta2)
