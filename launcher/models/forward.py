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


def token_logps(model: Any, batch: MicroBatch, temperature: float) -> tuple[Tensor, Tensor]:
    """Of each trained token log p(token | tokens before it), natural logarithm, with logits divided by `temperature`.

    fp32 [trained], row after row, and how many tokens each row has: int64 [rows].
    """
    logits, targets, rows = trained_logits(model, batch)
    # A division by 1 would hold the largest tensor of the step twice.
    logits = logits if temperature == 1 else logits / temperature
    return -cross_entropy(logits, targets, reduction="none"), torch.bincount(rows, minlength=batch.rows)


def sums_of_rows(values: Tensor, counts: Tensor) -> Tensor:
    """Sums of consecutive groups of `values`; at least one group.

    On a GPU index_add would add them up in another order each time, and a resumed run would not be the one that never
    stopped.
    """
    return torch.segment_reduce(values, "sum", lengths=counts)


def row_logps(model: Any, batch: MicroBatch) -> tuple[Tensor, Tensor]:
    """Per row, natural logarithm: (sum of log p(token | tokens before it) over its trained tokens, how many these are).

    Both fp32 [rows].
    """
    logps, counts = token_logps(model, batch, temperature=1.0)
    return (sums_of_rows(logps, counts) if batch.rows else logps), counts.float()


def last_outputs(model: Any, batch: MicroBatch) -> Tensor:
    """The head's outputs at the last token of each row: fp32 [rows, width]."""
    outputs = outputs_of(model, batch)
    ahead = torch.full_like(batch.row_ids[:, :1], -1)
    last = (batch.row_ids >= 0) & (batch.row_ids != torch.cat([batch.row_ids[:, 1:], ahead], dim=1))
    return outputs[last].float()
