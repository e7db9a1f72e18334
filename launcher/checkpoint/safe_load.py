"""How files of a checkpoint are read: as data only, and, where asked, no more of them than is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch.utils import serialization


@contextmanager
def safe_types() -> Iterator[None]:
    """Lets through the classes that DeepSpeed puts into its checkpoints beside tensors, and no others."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    # Not torch's own `safe_globals`: leaving an inner one would take the classes from an outer one too.
    before = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([ZeroStageEnum, LossScaler, DynamicLossScaler, fragment_address])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def mapped_files() -> AbstractContextManager[None]:
    """Lets every torch.load inside, DeepSpeed's own included, map its file: only what is touched is read."""
    # The module is given `patch` only when it is imported.
    config: Any = serialization.config
    context: AbstractContextManager[None] = config.patch("load.mmap", True)
    return context
