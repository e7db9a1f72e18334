"""Supervised fine-tuning: next-token cross-entropy on the answer tokens."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from launcher.data.feed.batches import IGNORED, MicroBatch


class Sft:
    """Cross-entropy of the tokens whose label is not `IGNORED`."""

    name = "sft"

    def loss_sum(self, model: torch.nn.Module, batch: MicroBatch) -> torch.Tensor:
        """Sum of -log p(token | tokens before it), natural logarithm, over trained tokens."""
        # Not every model takes positions; those that cannot train packed still train.
        positions = {} if batch.position_ids is None else {"position_ids": batch.position_ids}
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask, **positions}
        logits = model(**inputs, use_cache=False).logits
        targets = batch.labels[:, 1:]
        trained = targets != IGNORED
        # Only trained positions go to fp32: with a vocabulary of 128k, the logits are the largest tensor of the step.
        return cross_entropy(logits[:, :-1][trained].float(), targets[trained], reduction="sum")


OBJECTIVE = Sft()
