"""DeepSpeed's AdamW for offloaded states, made a function of what a checkpoint holds."""

from __future__ import annotations

from typing import Any

import torch


class OfStep:
    """DeepSpeed's compiled op, whose powers of the betas are those of the step that it is told of, and of no other.

    The op keeps βᵗ from call to call and multiplies it by β when the next step comes; after a resume it begins with
    pow(β, t). The two differ in their last bits, and so would a resumed run from one that never stopped.
    """

    def __init__(self, op: Any) -> None:
        self._op = op
        self._none = [torch.zeros(1) for _ in range(4)]
        """A parameter, its gradient and its moments, of no account."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._op, name)

    def adam_update(self, optimiser: int, step: int, lr: float, beta1: float, beta2: float, *others: Any) -> None:
        """One update, as the op does it; at a step that follows on none it computes the powers anew."""
        self._op.adam_update(optimiser, 0, 0.0, beta1, beta2, 1.0, 0.0, False, *self._none)
        self._op.adam_update(optimiser, step, lr, beta1, beta2, *others)


def cpu_adam(groups: list[dict[str, Any]], **arguments: Any) -> torch.optim.Optimizer:
    """AdamW on the CPU: torch's is several times slower, and the GPU waits for it."""
    from deepspeed.ops.adam import DeepSpeedCPUAdam

    optimiser: Any = DeepSpeedCPUAdam(groups, adamw_mode=True, **arguments)
    # In place, and no class of our own: DeepSpeed looks for its own class when states are offloaded.
    optimiser.ds_opt_adam = OfStep(optimiser.ds_opt_adam)
    found: torch.optim.Optimizer = optimiser
    return found
