"""What objectives ask of a model: its outputs on a micro batch, and log-probabilities of what was said."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from launcher.data.feed.batches import IGNORED, MicroBatch


def in_training(model: Any) -> bool:
    """Whether the model trains. DeepSpeed's engine always says so of itself; the model in it knows."""
    inner: torch.nn.Module = getattr(model, "module", model)
    return inner.training


def outputs_of(model: Any, batch: MicroBatch) -> Tensor:
    """The head's outputs for every token: [sequences, length, vocabulary], or the head's own width."""
    # Not every model takes positions; those that cannot train packed still train.
    positions = {} if batch.position_ids is None else {"position_ids": batch.position_ids}
    outputs: Tensor = model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, **positions, use_cache=False
    ).logits
    return outputs


def trained_logits(model: Any, batch: MicroBatch) -> tuple[Tensor, Tensor, Tensor]:
    """What predicts each trained token: (logits fp32 [trained, vocabulary], the tokens, their rows), [trained] both.

    Only trained positions go to fp32: with a vocabulary of 128k, the logits are the largest tensor of the step.
    """
    logits = outputs_of(model, batch)
    targets = batch.labels[:, 1:]
    trained = targets != IGNORED
    return logits[:, :-1][trained].float(), targets[trained], batch.row_ids[:, 1:][trained]


def row_logps(model: Any, batch: MicroBatch) -> tuple[Tensor, Tensor]:
    """Per row, natural logarithm: (sum of log p(token | tokens before it) over its trained tokens, how many these are).

    Both fp32 [rows].
    """
    logits, targets, rows = trained_logits(model, batch)
    logps = -cross_entropy(logits, targets, reduction="none")
    counts = torch.bincount(rows, minlength=batch.rows)
    # The tokens of a row are neighbours. On a GPU index_add would add them up in another order each time, and a resumed
    # run would not be the one that never stopped.
    sums = torch.segment_reduce(logps, "sum", lengths=counts) if batch.rows else logps
    return sums, counts.float()


def last_outputs(model: Any, batch: MicroBatch) -> Tensor:
    """The head's outputs at the last token of each row: fp32 [rows, width]."""
    outputs = outputs_of(model, batch)
    ahead = torch.full_like(batch.row_ids[:, :1], -1)
    last = (batch.row_ids >= 0) & (batch.row_ids != torch.cat([batch.row_ids[:, 1:], ahead], dim=1))
    return outputs[last].float()
