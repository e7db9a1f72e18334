"""NEFTune: noise on a model's embeddings while it trains (Jain et al., arXiv:2310.05914)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from launcher.data.feed.batches import MicroBatch
from launcher.models.forward import in_training


@contextlib.contextmanager
def noisy_embeddings(model: Any, batch: MicroBatch, alpha: float) -> Iterator[None]:
    """Within it, each row's embeddings get noise, uniform in ±alpha / sqrt(tokens of the row × width)."""
    if not alpha or not in_training(model):
        yield
        return
    lengths = torch.zeros(batch.rows + 1, device=batch.row_ids.device)
    # Padding, row -1, is the last entry.
    lengths.index_add_(0, batch.row_ids.reshape(-1) % (batch.rows + 1), torch.ones(batch.row_ids.numel()).to(lengths))
    per_token = lengths[batch.row_ids % (batch.rows + 1)]

    def add(module: torch.nn.Module, inputs: Any, embedded: torch.Tensor) -> torch.Tensor:
        size = alpha / torch.sqrt(per_token * embedded.shape[-1])
        noise = torch.empty_like(embedded).uniform_(-1, 1) * size.unsqueeze(-1).to(embedded)
        return embedded + noise

    # DeepSpeed's engine, or the model itself.
    inner = getattr(model, "module", model)
    handle = inner.get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
