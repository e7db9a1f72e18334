"""AdamW with moments of 8 bits (Dettmers et al., arXiv:2110.02861): a quarter of the memory, computed in fp32.

Checkpoints hold the codes, so that a resume is bit for bit. A universal copy holds what they stand for, and on other
ranks they are packed anew: there a block has other elements, and so another scale.
"""

from __future__ import annotations

from typing import Any

import torch

from launcher.checkpoint import packed
from launcher.checkpoint.packed import BLOCK, CHUNK
from launcher.checkpoint.states import PACKED
from launcher.train.moments import is_real, no_moment


class Adam8bit(torch.optim.Optimizer):
    """m ← β1·m + (1 - β1)·g, v ← β2·v + (1 - β2)·g²; θ ← θ - lr · (m̂ / (√v̂ + ε) + decay · θ)."""

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    _prepare(state, parameter)
                    state["step"] += 1
                    _update(parameter, parameter.grad, state, group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave, whose codes torch makes fp32 on the way."""
        super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            for name in PACKED:
                if f"{name}_codes" in state:
                    state[f"{name}_codes"] = state[f"{name}_codes"].to(torch.uint8)
                    state[name] = no_moment(parameter)


def _prepare(state: dict[str, Any], parameter: torch.Tensor) -> None:
    if "step" not in state:
        state["step"] = torch.zeros(())
    for name, signed in PACKED.items():
        if f"{name}_codes" not in state:
            zeros = packed.zeros(parameter.numel(), parameter.device, signed=signed)
            state[f"{name}_codes"], state[f"{name}_scales"] = zeros
        # A universal copy brings the moments themselves.
        if name in state and is_real(state[name]):
            _pack(state[name].view(-1), state[f"{name}_codes"], state[f"{name}_scales"], signed=signed)
        state[name] = no_moment(parameter)


def _pack(values: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, *, signed: bool) -> None:
    parts = torch.split(values, CHUNK), torch.split(codes, CHUNK), torch.split(scales, CHUNK // BLOCK)
    for some, their_codes, their_scales in zip(*parts, strict=True):
        packed.pack(some, their_codes, their_scales, signed=signed)


def _update(parameter: torch.Tensor, gradient: torch.Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    lr, (beta1, beta2), step = group["lr"], group["betas"], float(state["step"])
    correction = (1 - beta2**step) ** 0.5
    codes = [torch.split(state[f"{name}_codes"], CHUNK) for name in PACKED]
    scales = [torch.split(state[f"{name}_scales"], CHUNK // BLOCK) for name in PACKED]
    # Views of what is changed: a copy would be changed in its place.
    flat = torch.split(parameter.view(-1), CHUNK), torch.split(gradient.reshape(-1), CHUNK)
    for value, slope, *own in zip(*flat, *codes, *scales, strict=True):
        first = packed.unpack(own[0], own[2], signed=True).lerp_(slope, 1 - beta1)
        second = packed.unpack(own[1], own[3], signed=False).mul_(beta2).addcmul_(slope, slope, value=1 - beta2)
        packed.pack(first, own[0], own[2], signed=True)
        packed.pack(second, own[1], own[3], signed=False)
        divisor = second.sqrt_().div_(correction).add_(group["eps"])
        value.mul_(1 - lr * group["weight_decay"]).addcdiv_(first, divisor, value=-lr / (1 - beta1**step))
