"""What the training loop asks of an objective. The loop knows no objective by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch

    from launcher.data.feed.batches import MicroBatch


class Objective(Protocol):
    """One way to score a model on a micro batch."""

    name: str
    """As users type it."""

    def loss_sum(self, model: torch.nn.Module, batch: MicroBatch) -> torch.Tensor:
        """Sum (not mean) of the loss over the micro batch's trained tokens: a scalar, fp32, differentiable.

        The loop divides by the trained tokens of the whole global batch, so that the result does not depend on how
        the batch is cut into ranks and micro batches.
        """
        ...
