"""Muon: the momentum of a hidden matrix, orthogonalised (Jordan et al., kellerjordan.github.io/posts/muon, 2024).

Scaled so that an update is as large as AdamW's, with decoupled decay (Liu et al., arXiv:2502.16982, section 2.2): rate
and decay are AdamW's. Embeddings, heads, norms and biases are AdamW's own.

DeepSpeed has a Muon too. But for bf16 at stage 1 it clips what is orthogonalised already, so that steps shrink with the
number of matrices, and its conversion to another number of ranks loses the momentum. So it is not used here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.adamw import adamw

from launcher.train.moments import one_moment
from launcher.train.whole import Layout, change_all

A, B, C = 3.4445, -4.7750, 2.0315
"""Of x ← a·x + b·x³ + c·x⁵, which brings every singular value near 1."""
STEPS = 5
RMS = 0.2
"""Root mean square of an update's elements, as AdamW's was found to be."""


class Muon(torch.optim.Optimizer):
    """Groups marked `whole` hold hidden matrices; the others are AdamW's."""

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        betas: tuple[float, float],
        eps: float,
        fused: bool,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": 0.0, "fused": fused}
        super().__init__(groups, {**defaults, "whole": False})
        self.layout: Layout = {}
        """Where the matrices lie; to be set before the first step."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of every partition that has a gradient, which is used up; collective."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    step = self._muon_all if group["whole"] else _adamw
                    step(parameter, self.state[parameter], group)

    def _muon_all(self, parameter: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        assert parameter.grad is not None, "looked at by the caller"
        one_moment(state, parameter)
        state["exp_avg"].lerp_(parameter.grad, 1 - group["momentum"])
        # Nesterov's: the momentum that the next step would have with this gradient again.
        update = parameter.grad.lerp_(state["exp_avg"], group["momentum"])
        change_all(update, self.layout[id(parameter)], _direction)
        parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])
        state["step"] += 1


def _direction(matrix: torch.Tensor) -> torch.Tensor:
    return orthogonal(matrix).mul_(RMS * max(matrix.shape) ** 0.5)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Near to U Vᵀ of the matrix's U S Vᵀ, by Newton and Schulz's iteration; in bf16 on GPUs, as its authors do."""
    dtype = torch.bfloat16 if matrix.is_cuda else matrix.dtype
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = (x / (x.norm() + 1e-7)).to(dtype)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = A * x + (B * gram + C * gram @ gram) @ x
    found: torch.Tensor = x.mT if tall else x
    return found.to(matrix.dtype)


def _adamw(parameter: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    assert parameter.grad is not None, "looked at by the caller"
    if "exp_avg" not in state:
        state["step"] = torch.zeros((), device=parameter.device if group["fused"] else "cpu")
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
    beta1, beta2 = group["betas"]
    adamw(
        [parameter],
        [parameter.grad],
        [state["exp_avg"]],
        [state["exp_avg_sq"]],
        [],
        [state["step"]],
        fused=group["fused"],
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )
