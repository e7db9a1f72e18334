"""Which classes a checkpoint may hold. Whatever else it names is refused, so that loading runs no code from it."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def safe_types() -> AbstractContextManager[None]:
    """Lets through the classes that DeepSpeed puts into its checkpoints beside tensors, and no others."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    allowed = [ZeroStageEnum, LossScaler, DynamicLossScaler, fragment_address]
    context: AbstractContextManager[None] = torch.serialization.safe_globals(allowed)
    return context
